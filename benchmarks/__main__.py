"""``python -m benchmarks``: measures everything on an embedded server, prints tables, writes JSON and a chart."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import random
import time
import typing as t
from importlib.metadata import version
from pathlib import Path

from benchmarks import imports, operations, report, requests, scale, served
from benchmarks.contenders import connect
from benchmarks.server import Server, running

_RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("Flask", "Werkzeug", "pymongo", "mongoengine", "Flask-Session", "flask-mongoengine-3", "gunicorn")


class Effort(t.NamedTuple):
    """How much is measured: *rounds* blocks of *block* calls, seconds of served requests, processes that import."""

    rounds: int
    block: int
    scale: int
    shipped: int
    seconds: int
    served_rounds: int
    imports: int


FULL = Effort(rounds=50, block=20, scale=1_000_000, shipped=1_000, seconds=4, served_rounds=3, imports=9)
QUICK = Effort(rounds=12, block=10, scale=5_000, shipped=1_000, seconds=1, served_rounds=1, imports=3)
SMOKE = Effort(rounds=1, block=1, scale=0, shipped=10, seconds=0, served_rounds=0, imports=0)


def main() -> None:
    """Read the arguments and measure."""
    arguments = _arguments()
    effort = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
    if arguments.scale is not None:
        effort = effort._replace(scale=arguments.scale)
    output = arguments.output or (None if arguments.quick or arguments.smoke else _RESULTS)

    began = time.monotonic()
    with running() as server:
        for results in measured(server, effort):
            if output is not None:
                _write(results, output)
    print(report.text(results))
    print(f"\n{time.monotonic() - began:.0f} seconds")

    if output is not None:
        print(f"Written to {output}: results.json, requests.svg")


def _write(results: dict[str, t.Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(_rounded(results), indent=1) + "\n", encoding="utf-8")
    (folder / "requests.svg").write_text(report.svg(results), encoding="utf-8")


def measured(server: Server, effort: Effort) -> t.Iterator[dict[str, t.Any]]:
    """All parts that *effort* has time for; the results so far after each."""
    rounds, block = effort.rounds, effort.block
    results: dict[str, t.Any] = {"about": _about(server)}

    _say("whole requests")
    counts = requests.counted(server)
    times = requests.timed(server, rounds=rounds, block=block, shipped=effort.shipped)
    results["requests"] = _merged(times, counts)

    _say("store operations")
    results["operations"] = _merged(operations.timed(server, rounds=rounds, block=block), operations.counted(server))
    yield results

    if effort.imports:
        _say("imports")
        results["imports"] = imports.measure(effort.imports)
        yield results
    if effort.served_rounds:
        _say("served requests")
        results["served"] = served.measure(server, rounds=effort.served_rounds, seconds=effort.seconds)
        yield results
    if effort.scale:
        _say(f"{effort.scale:,} sessions")
        results["scale"] = scale.measure(server, effort.scale, rounds=rounds, block=block)
    yield results


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, 5,000 sessions: less than a minute")
    parser.add_argument("--smoke", action="store_true", help="each call once: shows that it works, and the commands")
    parser.add_argument("--scale", type=int, metavar="N", help="sessions of the part about scale (0: without)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for results.json and requests.svg")
    return parser.parse_args()


def _about(server: Server) -> dict[str, t.Any]:
    with connect(server.uri) as client:
        mongodb = client.server_info()["version"]
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "mongodb": mongodb,
        "packages": {name: version(name) for name in _PACKAGES if _is_installed(name)},
    }


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except ModuleNotFoundError:
        return False
    return True


def _merged(times: dict[str, t.Any], counts: dict[str, t.Any]) -> dict[str, t.Any]:
    return {case: {name: {**row, **counts[case][name]} for name, row in rows.items()} for case, rows in times.items()}


def _rounded(value: t.Any) -> t.Any:
    """Four digits say more than was measured."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _say(what: str) -> None:
    print(f"measuring {what} …", flush=True)


if __name__ == "__main__":
    random.seed()
    main()
