"""Whole requests, in process: what each case costs against both floors."""

from __future__ import annotations

import typing as t

from benchmarks import contenders as c
from benchmarks.measure import Listener, Pace, commands_of, interleaved, rows_of
from benchmarks.server import Server

Results = dict[str, dict[str, t.Any]]


def measure(server: Server, pace: Pace, *, shipped: int) -> Results:
    """Times, commands and bytes of each contender's requests, by case; *shipped*: sessions that Flask-Session scans."""
    times, counts = timed(server, pace, shipped=shipped), counted(server)
    return {case: {name: {**row, **counts[case][name]} for name, row in rows.items()} for case, rows in times.items()}


def counted(server: Server) -> Results:
    """Commands and bytes of each contender's requests, by case."""
    listener = Listener()
    with c.connect(server.uri, event_listeners=[listener]) as client:
        made = c.contenders(client["benchmarks_counted"])
        counts = {
            case: {subject.name: commands_of(subject, listener) for subject in c.subjects_of(made, case)}
            for case in c.CASES
        }
        client.drop_database("benchmarks_counted")

    return counts


def timed(server: Server, pace: Pace, *, shipped: int) -> Results:
    """Times of each contender's requests, by case."""
    results = {}
    with c.connect(server.uri) as client:
        made = c.contenders(client["benchmarks_timed"])
        if "shipped" in made:
            made["shipped"].fill(shipped)
        for case in c.CASES:
            samples = interleaved(c.subjects_of(made, case), pace, server.pids)
            results[case] = rows_of(samples, c.bases_of(case))
        client.drop_database("benchmarks_timed")

    return results
