"""Time and processor time of interleaved calls, and what one call sends; results as ratios of medians."""

from __future__ import annotations

import gc
import os
import random
import statistics
import sys
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import bson
from pymongo import monitoring

#: Seconds in one tick of the processor times of ``/proc``.
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Pace(t.NamedTuple):
    """How often is measured: *rounds* blocks of *block* calls."""

    rounds: int
    block: int


@dataclass
class Subject:
    """Something to measure: *prepare* makes so many arguments, untimed, and *call* takes one of them."""

    name: str
    call: t.Callable[[t.Any], t.Any]
    prepare: t.Callable[[int], t.Sequence[t.Any]]


@dataclass
class Sample:
    """Per call, one entry for each block; seconds."""

    wall: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)

    def times(self) -> dict[str, float]:
        """Microseconds of one call: medians, of the server (whose clock is coarse) the mean."""
        return {
            "wall_us": statistics.median(self.wall) * 1e6,
            "client_us": statistics.median(self.client) * 1e6,
            "server_us": statistics.fmean(self.server) * 1e6,
        }

    def ratio_to(self, base: Sample) -> dict[str, float]:
        """Ratios of medians, in time and in processor time, and the quartiles of the ratio from block to block."""
        paired = [mine / other for mine, other in zip(self.wall, base.wall, strict=True)]
        low, _, high = statistics.quantiles(paired, n=4) if len(paired) > 1 else (paired * 3)
        return {
            "wall": statistics.median(self.wall) / statistics.median(base.wall),
            "low": low,
            "high": high,
            "client": statistics.median(self.client) / statistics.median(base.client),
        }


def rows_of(samples: dict[str, Sample], bases: dict[str, str]) -> dict[str, dict[str, t.Any]]:
    """For each subject its times, and under ``to`` its ratios to each of the *bases* (label: name of a subject)."""
    return {
        name: {
            **sample.times(),
            "to": {label: sample.ratio_to(samples[base]) for label, base in bases.items() if base in samples},
        }
        for name, sample in samples.items()
    }


def interleaved(subjects: t.Sequence[Subject], pace: Pace, pids: t.Sequence[int]) -> dict[str, Sample]:
    """Each round measures a block of calls of every subject, in a new order: what disturbs one disturbs all.

    *pids*: the processes of the server, whose processor time is measured, too.
    """
    samples = {subject.name: Sample() for subject in subjects}
    for subject in subjects:
        run_block(subject, min(30, pace.rounds * pace.block), pids, Sample())

    gc.collect()
    gc.freeze()
    order = list(subjects)
    for _ in range(pace.rounds):
        random.shuffle(order)
        for subject in order:
            run_block(subject, pace.block, pids, samples[subject.name])
    gc.unfreeze()

    return samples


def run_block(subject: Subject, block: int, pids: t.Sequence[int], sample: Sample) -> None:
    arguments, call = subject.prepare(block), subject.call
    busy, client, began = cpu_of(pids), time.thread_time(), time.perf_counter()
    for argument in arguments:
        call(argument)
    ended, client_end, busy_end = time.perf_counter(), time.thread_time(), cpu_of(pids)

    sample.wall.append((ended - began) / block)
    sample.client.append((client_end - client) / block)
    sample.server.append((busy_end - busy) / block)


def cpu_of(pids: t.Iterable[int]) -> float:
    """Seconds of processor time that the processes have used; to the nanosecond where the kernel tells."""
    return sum(map(_cpu_of_one, pids))


def _cpu_of_one(pid: int) -> float:
    try:
        return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except (OSError, ValueError):
        return _ticks_of(pid)


def _ticks_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK


def total_cpu_of(pids: t.Iterable[int]) -> float:
    """The same with threads that have ended, in ticks of 10 ms: for whole seconds of work."""
    return sum(map(_ticks_of, pids))


def resident(pid: int | str = "self") -> int:
    """Bytes of memory that the process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    sys.exit("/proc tells no VmRSS: the benchmarks want Linux.")


class Listener(monitoring.CommandListener):
    """What one client sends and gets, but for questions about the time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.bytes = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name != "hello":
            self.names.append(event.command_name)
            self.bytes += len(bson.encode(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name != "hello":
            self.bytes += len(bson.encode(event.reply))

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    def clear(self) -> None:
        self.names, self.bytes = [], 0


def commands_of(subject: Subject, listener: Listener, *, calls: int = 5) -> dict[str, t.Any]:
    """The commands of one call, which must be the same each time, and the bytes of commands and replies."""
    seen: list[list[str]] = []
    total = 0
    subject.call(subject.prepare(1)[0])
    for argument in subject.prepare(calls):
        listener.clear()
        subject.call(argument)
        seen.append(listener.names)
        total += listener.bytes

    if any(names != seen[0] for names in seen):
        raise AssertionError(f"{subject.name} sends different commands from call to call: {seen}")
    return {"commands": seen[0], "bytes": round(total / calls)}
