"""A read-only request beside more and more sessions of other visitors."""

from __future__ import annotations

import statistics
import time
import typing as t

from benchmarks import contenders as c
from benchmarks.measure import Pace, Subject, interleaved, rows_of
from benchmarks.server import Server

LEVELS = (1, 1_000, 100_000, 1_000_000)

_CONTENDERS = ("ours", "raw", "correct", "cookie", "shipped", "indexed", "mongoengine")
#: Requests of Flask-Session as shipped that are measured where each one scans a large collection.
_LARGE, _SCANS = 10_000, 5


def measure(server: Server, pace: Pace, *, most: int) -> dict[str, dict[str, t.Any]]:
    """Times by number of sessions (up to *most*) and contender; each contender has so many of its own kind."""
    results, there = {}, 1
    with c.connect(server.uri) as client:
        made = c.contenders(client["benchmarks_sessions"], _CONTENDERS)
        for level in levels_to(most):
            for contender in made.values():
                if contender.fill:
                    contender.fill(level - there)
            there = level
            results[f"{level:,}"] = _beside(made, level, pace, server)
        client.drop_database("benchmarks_sessions")

    return results


def levels_to(most: int) -> list[int]:
    """The numbers of sessions to measure, of which *most* is the last."""
    return sorted({*(level for level in LEVELS if level < most), most})


def _beside(made: dict[str, c.Contender], level: int, pace: Pace, server: Server) -> dict[str, t.Any]:
    subjects = c.subjects_of(made, "read")
    slow = [subject for subject in subjects if subject.name == "shipped" and level > _LARGE]
    rows = rows_of(
        interleaved([subject for subject in subjects if subject not in slow], pace, server.pids), c.bases_of("read")
    )
    for subject in slow:
        rows[subject.name] = _scanning(subject, rows)
    return rows


def _scanning(subject: Subject, rows: dict[str, t.Any]) -> dict[str, t.Any]:
    """A few requests that take so long that their order among the others does not matter."""
    seconds = []
    for environ in subject.prepare(_SCANS):
        began = time.perf_counter()
        subject.call(environ)
        seconds.append(time.perf_counter() - began)

    wall = statistics.median(seconds) * 1e6
    return {"wall_us": wall, "to": {base: {"wall": wall / rows[base]["wall_us"]} for base in ("raw", "correct")}}
