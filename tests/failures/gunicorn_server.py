"""A gunicorn that serves :mod:`plain_shop`, with every warning an error in its workers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

from waiting import eventually

HERE = Path(__file__).parent


class Gunicorn:
    """Started on a free port; what it says goes to a file."""

    def __init__(self, folder, worker_class="sync", workers=2, *options, **config):
        self.port = free_port()
        self.said = Path(folder, f"gunicorn-{self.port}.log")
        command = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning", "-m", "gunicorn"]
        command += ["-b", f"127.0.0.1:{self.port}", "-w", str(workers), "-k", worker_class, "--no-control-socket"]
        command += ["--preload", *options, "plain_shop:create_app()"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
            "SHOP": json.dumps(config),
        }
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(command, env=environment, cwd=folder, stdout=said, stderr=said)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def get(self, path, cookie=None):
        """Status, text and the cookie that was set."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Cookie": f"session={cookie}"} if cookie else {})
            response = connection.getresponse()
            text = response.read().decode()
            new = (response.getheader("Set-Cookie") or "").partition(";")[0].removeprefix("session=")
            return response.status, text, new or cookie

    def wait_ready(self, seconds=40):
        """Until somebody answers."""
        eventually(self._answers, seconds, f"gunicorn:\n{self.text()}")
        return self

    def states(self, workers=2):
        """What each of so many workers says of itself, by process id."""
        found = {}

        def all_seen():
            state = json.loads(self.get("/state")[1])
            found[state["pid"]] = state
            return len(found) == workers

        eventually(all_seen, 30, f"{workers} workers")
        return found

    def text(self):
        """What it said so far."""
        return self.said.read_text(errors="replace")

    def _answers(self):
        assert self.process.poll() is None, self.text()
        try:
            return self.get("/untouched")[0] == 200
        except OSError:
            return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
