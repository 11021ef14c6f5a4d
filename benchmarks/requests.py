"""Whole requests, in process: what each case costs against the floor of Flask and the raw calls."""

from __future__ import annotations

import typing as t

from benchmarks import contenders as c
from benchmarks.measure import Listener, Subject, commands_of, interleaved
from benchmarks.server import Server

#: What is 1.00 in each case.
BASES = {
    "untouched": "none",
    "read": "floor",
    "changed": "floor",
    "blind write": "floor",
    "first write": "floor",
    "log-in": "floor",
}


def subjects_of(made: dict[str, c.Contender], case: str) -> list[Subject]:
    """Everybody who takes part in *case*; the floor has no untouched request, no session at all only that."""
    left_out = "floor" if case == "untouched" else "none"
    return [c.subject(contender, case) for key, contender in made.items() if key != left_out]


def counted(server: Server) -> dict[str, dict[str, t.Any]]:
    """Commands and bytes of each contender's requests, by case."""
    listener = Listener()
    with c.connect(server.uri, event_listeners=[listener]) as client:
        made = c.contenders(client["benchmarks_counted"])
        counts = {
            case: {subject.name: commands_of(subject, listener) for subject in subjects_of(made, case)}
            for case in c.CASES
        }
        close(made)
        client.drop_database("benchmarks_counted")

    return counts


def timed(server: Server, *, rounds: int, block: int, shipped: int = 1000) -> dict[str, dict[str, t.Any]]:
    """Times of each contender's requests, by case, as ratios to the case's base."""
    results = {}
    with c.connect(server.uri) as client:
        database = client["benchmarks_timed"]
        made = c.contenders(database)
        c.fill_shipped(database, shipped)
        for case in c.CASES:
            samples = interleaved(subjects_of(made, case), rounds=rounds, block=block, server=server.pid)
            results[case] = {name: sample.summary(samples[BASES[case]]) for name, sample in samples.items()}
        close(made)
        client.drop_database("benchmarks_timed")

    return results


def close(made: dict[str, c.Contender]) -> None:
    for contender in made.values():
        if state := contender.app.extensions.get("mongo_session"):
            state.store.stop_cleanup()
