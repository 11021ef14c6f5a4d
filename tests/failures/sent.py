"""What was sent to the database."""

from __future__ import annotations

from pymongo import monitoring


class Sent(monitoring.CommandListener):
    """All commands sent, and their names."""

    def __init__(self):
        self.names = []
        self.commands = []

    def started(self, event):
        self.names.append(event.command_name)
        self.commands.append(event.command)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass

    def of(self, name):
        """Those of that name."""
        return [command for command in self.commands if name in command]
