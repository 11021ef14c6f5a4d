"""The layer alone: the same requests with the driver stubbed, so that what is left is Flask and the sessions' own cost.

No network and no server: a difference of one to three per cent shows on a noisy machine, too. Of each request the
time of a route without sessions is taken off, block by block; the rest is the layer.
"""

from __future__ import annotations

import statistics
import sys
import typing as t
from pathlib import Path

import flask_mongo_session
from benchmarks import contenders as c
from benchmarks import correct_floor
from benchmarks.measure import Pace, Sample, Subject, interleaved, rows_of
from benchmarks.stub import StubClient

_CODE = {"ours": str(Path(flask_mongo_session.__file__).parent), "correct": correct_floor.__file__}


def measure(pace: Pace) -> dict[str, dict[str, dict[str, t.Any]]]:
    """Times, the layer in microseconds of processor time, its ratio to the correct floor's, calls; by case."""
    with StubClient() as client:
        made = c.contenders(client["benchmarks_layer"], c.LAYER)
        return {case: _case(made, case, pace) for case in c.CASES}


def _case(made: dict[str, c.Contender], case: str, pace: Pace) -> dict[str, dict[str, t.Any]]:
    bare = c.subject(made["none"], "untouched")
    subjects = [bare, *(subject for subject in c.subjects_of(made, case) if subject.name != "none")]
    samples = interleaved(subjects, pace, ())
    layers = {name: _layer(sample, samples["none"]) for name, sample in samples.items()}
    rows = rows_of(samples, c.bases_of(case))
    for name, row in rows.items():
        row["layer_us"] = layers[name]
        row["layer_to_correct"] = layers[name] / layers["correct"]
    for subject in subjects:
        if subject.name in _CODE:
            rows[subject.name]["calls"] = calls_of(subject, _CODE[subject.name])
    return rows


def _layer(sample: Sample, bare: Sample) -> float:
    """Microseconds of processor time beyond the route without sessions; the median over the rounds."""
    return statistics.median(mine - none for mine, none in zip(sample.client, bare.client, strict=True)) * 1e6


def calls_of(subject: Subject, code: str) -> int:
    """Calls of Python functions in files below *code* during one request; exact, unlike a time."""
    count = 0

    def profile(frame: t.Any, event: str, _argument: t.Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(code)

    first, second = subject.prepare(2)
    subject.call(first)
    sys.setprofile(profile)
    try:
        subject.call(second)
    finally:
        sys.setprofile(None)
    return count
