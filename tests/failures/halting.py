"""Starts applications of :mod:`halting_shop`, and kills or pauses them right before or after one of their commands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from waiting import eventually

HERE = Path(__file__).parent


class Nursery:
    """Makes processes quickly, each forked from one that has imported everything."""

    def __init__(self, folder):
        self._path = str(folder / "halting")
        command = [sys.executable, "-W", "error", str(HERE / "halting_shop.py"), self._path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout.readline() == b"ready\n"

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def start(self, **job):
        """A worker that has begun with its request."""
        return Worker(self._path, job)


class Worker:
    """One process with one request."""

    def __init__(self, path, job):
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(60)
        self._connection.connect(path)
        self._talk = self._connection.makefile("rw")
        #: Tokens that it made, the latest last.
        self.tokens = []
        self.killed = False
        self.pid = self._hear("pid")
        self._say(job)

    def close(self):
        """End it, whatever it is doing, and let go of it."""
        if not self.killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)  # it lives until the connection ends, so the id is still its own
        self._talk.close()
        self._connection.close()

    def wait_halted(self):
        """Return when it stands at its command; that command's name."""
        return self._hear("halted")

    def go_on(self):
        """Let it go on from there."""
        self._say(None)

    def answer(self):
        """Its answer: ``status``, ``cookie`` and ``commands``."""
        return self._hear("status", whole=True)

    def kill(self):
        """End it without warning; returns when it is gone, whatever it had sent."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._talk.readline() == ""
        self.killed = True

    def pause(self):
        """Stop it where it is."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: self._state() == "T", 10, "a process to stop")

    def resume(self):
        """Let a paused process run."""
        os.kill(self.pid, signal.SIGCONT)

    def _state(self):
        return Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]

    def _say(self, message):
        self._talk.write(json.dumps(message) + "\n")
        self._talk.flush()

    def _hear(self, what, *, whole=False):
        while True:
            line = self._talk.readline()
            assert line, "the process ended"
            message = json.loads(line)
            if "token" in message:
                self.tokens.append(message["token"])
            if what in message:
                return message if whole else message[what]
