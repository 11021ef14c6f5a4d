"""Requests on large sessions: what a session costs that holds far more than the request looks at."""

from __future__ import annotations

import typing as t

from benchmarks import contenders as c
from benchmarks.content import content_of
from benchmarks.measure import Pace, interleaved, rows_of
from benchmarks.server import Server

#: KiB of a session, nearly all of it one list of orders.
SIZES = (1, 10, 100)
#: What a request does: reads one number, reads a number of the first order, reads and changes a number.
CASES = {"read one scalar": "read", "look at a nested value": "nested", "change a scalar": "changed"}

_CONTENDERS = ("ours", "raw", "correct", "indexed", "mongoengine")


def measure(server: Server, pace: Pace, *, sizes: t.Iterable[int] = SIZES) -> dict[str, dict[str, dict[str, t.Any]]]:
    """Times by size (``"10 KiB"``), case and contender. A signed cookie of more than 4 KiB is no cookie."""
    return {f"{size} KiB": _of_size(server, pace, size * 1024) for size in sizes}


def _of_size(server: Server, pace: Pace, size: int) -> dict[str, dict[str, t.Any]]:
    with c.connect(server.uri) as client:
        made = c.contenders(client["benchmarks_sizes"], _CONTENDERS, content_of(size))
        results = {
            name: rows_of(interleaved(c.subjects_of(made, case), pace, server.pids), c.bases_of(case))
            for name, case in CASES.items()
        }
        client.drop_database("benchmarks_sizes")

    return results
