"""A read-only request served by gunicorn to wrk: processor time of worker and server, requests a second."""

from __future__ import annotations

import contextlib
import http.cookies
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from flask import Flask

from benchmarks import contenders as c
from benchmarks.measure import total_cpu_of
from benchmarks.server import Server

_URI, _KEY = "BENCHMARKS_URI", "BENCHMARKS_CONTENDER"
_DATABASE = "benchmarks_served"
_MAKERS: dict[str, t.Callable[[t.Any], c.Contender]] = {
    "ours": c.ours,
    "raw": c.raw_floor,
    "correct": c.correct_floor,
    "indexed": c.flask_session,
}


def application() -> Flask:
    """For the worker: the contender that the environment names."""
    contender = _MAKERS[os.environ[_KEY]](c.connect(os.environ[_URI])[_DATABASE])
    contender.new_cookie()
    return contender.app


def measure(server: Server, *, rounds: int, seconds: int) -> dict[str, t.Any] | None:
    """In turns, *rounds* times so many *seconds* each; ``None``, with a word why, where wrk is missing."""
    if shutil.which("wrk") is None:
        print("Served requests are left out: there is no wrk on the PATH.")
        return None

    runs: dict[str, list[dict[str, float]]] = {key: [] for key in _MAKERS}
    with contextlib.ExitStack() as stack:
        workers = {key: stack.enter_context(_gunicorn(server.uri, key)) for key in _MAKERS}
        for _ in range(rounds):
            for key in random.sample(list(workers), len(workers)):
                runs[key].append(_run(server.pids, *workers[key], seconds))

    with c.connect(server.uri) as client:
        client.drop_database(_DATABASE)
    medians = {
        key: {name: statistics.median(run[name] for run in several) for name in several[0]}
        for key, several in runs.items()
    }
    ratios = {
        name: {base: _paired(several, runs[base]) for base in ("raw", "correct", "indexed")}
        for name, several in runs.items()
    }
    return {name: {**row, "cpu_to": ratios[name]} for name, row in medians.items()}


def _paired(several: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    """The ratio of processor times of client and server, taken round by round, since the machine's speed changes."""
    return statistics.median(one["cpu_us"] / other["cpu_us"] for one, other in zip(several, others, strict=True))


@contextlib.contextmanager
def _gunicorn(uri: str, key: str) -> t.Iterator[tuple[int, str]]:
    """One synchronous worker; its process id and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", address, "--no-control-socket", "benchmarks.served:application()"],
        env={**os.environ, _URI: uri, _KEY: key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield _worker(address, process), address
    finally:
        process.terminate()
        process.wait(20)


def _worker(address: str, process: subprocess.Popen[bytes]) -> int:
    """The worker's process id, once it answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{address}/read", timeout=10).close()
        except urllib.error.HTTPError:  # no session yet
            return _child_of(process.pid)
        except OSError:
            time.sleep(0.1)
        else:
            return _child_of(process.pid)
    raise RuntimeError(f"gunicorn does not answer on {address}")


def _child_of(parent: int) -> int:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = stat.read_text().partition(" ")
            if int(rest.rpartition(")")[2].split()[1]) == parent:
                return int(pid)
    raise RuntimeError("gunicorn has no worker")


def _run(server: tuple[int, ...], worker: int, address: str, seconds: int) -> dict[str, float]:
    cookie = _cookie(address)
    client, busy = total_cpu_of([worker]), total_cpu_of(server)
    command = ["wrk", "-t1", "-c2", f"-d{seconds}s", "-H", f"Cookie: session={cookie}", f"http://{address}/read"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    client, busy = total_cpu_of([worker]) - client, total_cpu_of(server) - busy

    found = re.search(r"(\d+) requests in", said)
    if found is None or "Non-2xx" in said:
        raise RuntimeError(said)
    count = int(found[1])
    return {
        "client_us": client / count * 1e6,
        "server_us": busy / count * 1e6,
        "cpu_us": (client + busy) / count * 1e6,
        "requests_per_second": count / seconds,
    }


def _cookie(address: str) -> str:
    """A visitor's cookie; the raw floor knows its session by heart."""
    try:
        with urllib.request.urlopen(f"http://{address}/fill") as response:
            return http.cookies.SimpleCookie(response.headers["Set-Cookie"])["session"].value
    except urllib.error.HTTPError:
        return "none"
