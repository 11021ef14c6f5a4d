"""What importing the package costs over what an application with Flask and MongoEngine has imported anyway."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import typing as t

_PROBE = """
import gc, json, resource, sys, time
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) * 1024
{before}
gc.collect(); memory, began = resident(), time.process_time()
{imports}
print(json.dumps({{"total": time.process_time(), "cpu": time.process_time() - began, "memory": resident() - memory}}))
"""
_BASE = "import flask, mongoengine"


def measure(rounds: int) -> dict[str, t.Any]:
    """Processor time of a process that imports the package, as a ratio; memory that it adds."""
    probes = {
        "without": _PROBE.format(before=_BASE, imports=""),
        "with": _PROBE.format(before=_BASE, imports="import flask_mongo_session"),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in probes}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for name in random.sample(list(probes), len(probes)):
                command = [sys.executable, "-c", probes[name]]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
                if number:  # the first time everything was compiled
                    runs[name].append(json.loads(done.stdout))

    medians = {
        name: {key: statistics.median(run[key] for run in several) for key in several[0]}
        for name, several in runs.items()
    }
    return {
        "base_cpu": medians["without"]["total"],
        "added_cpu": medians["with"]["cpu"],
        "ratio": (medians["without"]["total"] + medians["with"]["cpu"]) / medians["without"]["total"],
        "memory": medians["with"]["memory"] - medians["without"]["memory"],
    }
