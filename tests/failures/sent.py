"""What was sent to the database."""

from __future__ import annotations

from pymongo import monitoring


class Sent(monitoring.CommandListener):
    """The names of all commands sent."""

    def __init__(self):
        self.names = []

    def started(self, event):
        self.names.append(event.command_name)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass
