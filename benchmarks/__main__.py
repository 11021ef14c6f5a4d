"""``python -m benchmarks``: measures everything on an embedded server, prints tables, writes JSON and a chart."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
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


FULL = Effort(rounds=50, block=20, scale=1_000_000, shipped=1_000, seconds=2, served_rounds=15, imports=9)
QUICK = Effort(rounds=12, block=10, scale=5_000, shipped=1_000, seconds=1, served_rounds=1, imports=3)
SMOKE = Effort(rounds=1, block=1, scale=0, shipped=10, seconds=0, served_rounds=0, imports=0)


def main() -> None:
    """Read the arguments and measure."""
    arguments = _arguments()
    effort = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
    if arguments.scale is not None:
        effort = effort._replace(scale=arguments.scale)
    output = arguments.output or (None if arguments.quick or arguments.smoke else _RESULTS)
    results = _read(output) if arguments.only and output else {}

    began = time.monotonic()
    with running() as server:
        results["about"] = _about(server)
        for part, measure in PARTS.items():
            if part not in (arguments.only or PARTS):
                continue
            print(f"measuring {part} …", flush=True)
            results[part] = measure(server, effort)
            if output is not None:
                _write(results, output)

    print(report.text(results))
    print(f"\n{time.monotonic() - began:.0f} seconds")
    if output is not None:
        print(f"Written to {output}: results.json, requests.svg")


def _requests(server: Server, effort: Effort) -> dict[str, t.Any]:
    times = requests.timed(server, rounds=effort.rounds, block=effort.block, shipped=effort.shipped)
    return _merged(times, requests.counted(server))


def _operations(server: Server, effort: Effort) -> dict[str, t.Any]:
    times = operations.timed(server, rounds=effort.rounds, block=effort.block)
    return _merged(times, operations.counted(server))


def _imports(_server: Server, effort: Effort) -> dict[str, t.Any] | None:
    return imports.measure(effort.imports) if effort.imports else None


def _served(server: Server, effort: Effort) -> dict[str, t.Any] | None:
    return served.measure(server, rounds=effort.served_rounds, seconds=effort.seconds) if effort.served_rounds else None


def _scale(server: Server, effort: Effort) -> dict[str, t.Any] | None:
    if not effort.scale:
        return None
    return scale.measure(server, effort.scale, rounds=effort.rounds, block=effort.block)


PARTS: dict[str, t.Callable[[Server, Effort], dict[str, t.Any] | None]] = {
    "requests": _requests,
    "operations": _operations,
    "imports": _imports,
    "served": _served,
    "scale": _scale,
}


def _read(folder: Path) -> dict[str, t.Any]:
    """An earlier run's results, to measure some parts of it again."""
    file = folder / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _write(results: dict[str, t.Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(_rounded(results), indent=1) + "\n", encoding="utf-8")
    if "requests" in results:
        (folder / "requests.svg").write_text(report.svg(results), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, 5,000 sessions: less than a minute")
    parser.add_argument("--smoke", action="store_true", help="each call once: shows that it works, and the commands")
    parser.add_argument("--scale", type=int, metavar="N", help="sessions of the part about scale (0: without)")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these parts again, keep the others' results")
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


if __name__ == "__main__":
    main()
