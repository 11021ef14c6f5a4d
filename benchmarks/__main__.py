"""``python -m benchmarks``: measures on servers of its own and prints tables; draws and keeps them with ``--save``."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import time
import typing as t
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import chart, imports, layer, operations, report, requests, scale, served, sessions, sizes, targets
from benchmarks.contenders import connect
from benchmarks.measure import Pace
from benchmarks.server import REPLICA_SET, STANDALONE, Server, running

_RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("Flask", "Werkzeug", "pymongo", "mongoengine", "Flask-Session", "flask-mongoengine-3", "gunicorn")


class Effort(t.NamedTuple):
    """How much is measured.

    *scale*: sessions of the parts about many; *quiet*: seconds of finds without a sweep; *shipped*: sessions that
    Flask-Session scans; *seconds*: of one run of served requests.
    """

    pace: Pace
    sizes: Pace
    layer: Pace
    scale: int
    quiet: float
    shipped: int
    seconds: int
    served_rounds: int
    imports: int


FULL = Effort(
    Pace(50, 20),
    sizes=Pace(40, 10),
    layer=Pace(200, 25),
    scale=1_000_000,
    quiet=3,
    shipped=1_000,
    seconds=2,
    served_rounds=15,
    imports=9,
)
QUICK = Effort(
    Pace(12, 8),
    sizes=Pace(6, 4),
    layer=Pace(30, 15),
    scale=5_000,
    quiet=0.5,
    shipped=1_000,
    seconds=1,
    served_rounds=1,
    imports=3,
)
SMOKE = Effort(*3 * [Pace(1, 1)], scale=0, quiet=0, shipped=10, seconds=0, served_rounds=0, imports=0)

_Measured = dict[str, t.Any] | None


def _served(server: Server, effort: Effort) -> _Measured:
    if not effort.served_rounds:
        return None
    return served.measure(server, rounds=effort.served_rounds, seconds=effort.seconds)


def _sessions(server: Server, effort: Effort) -> _Measured:
    return sessions.measure(server, effort.pace, most=effort.scale) if effort.scale else None


def _scale(server: Server, effort: Effort) -> _Measured:
    return scale.measure(server, effort.pace, scale=effort.scale, quiet=effort.quiet) if effort.scale else None


PARTS: dict[str, t.Callable[[Server, Effort], _Measured]] = {
    "requests": lambda server, effort: requests.measure(server, effort.pace, shipped=effort.shipped),
    "sizes": lambda server, effort: sizes.measure(server, effort.sizes),
    "operations": lambda server, effort: operations.measure(server, effort.pace),
    "served": _served,
    "sessions": _sessions,
    "scale": _scale,
}
#: The parts that need no server.
ALONE: dict[str, t.Callable[[Effort], _Measured]] = {
    "layer": lambda effort: layer.measure(effort.layer),
    "imports": lambda effort: imports.measure(effort.imports) if effort.imports else None,
}


def main() -> None:
    """Read the arguments, measure, print; write where that is asked for."""
    arguments = _arguments()
    effort = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
    if arguments.scale is not None:
        effort = effort._replace(scale=arguments.scale)
    kind = REPLICA_SET if arguments.replica_set else STANDALONE
    parts = ["layer"] if arguments.layer else arguments.only or [*PARTS, *ALONE]

    kept = _read(arguments.save) if arguments.save else {}
    results = kept.setdefault(kind, {})
    measured: dict[str, t.Any] = {}
    began = time.monotonic()
    for part, found in _measure(kind, parts, effort):
        measured[part] = results[part] = found
        if arguments.save:
            _write(kept, arguments.save)

    print(f"\nMongoDB: {kind}\n{report.text(measured)}" if "mongodb" in measured["about"] else report.text(measured))
    if arguments.check:
        print(targets.text(measured))
    print(f"\n{time.monotonic() - began:.0f} seconds")
    if arguments.save:
        print(f"Written to {arguments.save}: results.json, {', '.join(chart.charts(kept))}")


def _measure(kind: str, parts: list[str], effort: Effort) -> t.Iterator[tuple[str, _Measured]]:
    """Each of *parts* with what was measured, as soon as it is; a server starts only for those that need one."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running(kind)) if any(part in PARTS for part in parts) else None
        yield "about", _about(server)
        for part in parts:
            print(f"measuring {part} …", end=" ", flush=True)
            began = time.monotonic()
            found = ALONE[part](effort) if part in ALONE else PARTS[part](t.cast("Server", server), effort)
            print(f"{time.monotonic() - began:.0f} s")
            yield part, found


def _read(folder: Path) -> dict[str, t.Any]:
    """What an earlier run left, by kind of server: parts that are not measured now stay as they are."""
    file = folder / "results.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {kind: found[kind] for kind in (STANDALONE, REPLICA_SET) if kind in found}


def _write(results: dict[str, t.Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(_rounded(results), indent=1) + "\n", encoding="utf-8")
    for name, drawing in chart.charts(results).items():
        (folder / name).write_text(drawing, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, 5,000 sessions: less than a minute")
    parser.add_argument("--smoke", action="store_true", help="each call once: shows that it works, and the commands")
    parser.add_argument("--replica-set", action="store_true", help="on three nodes instead of one")
    parser.add_argument("--scale", type=int, metavar="N", help="sessions of the parts about many (0: without)")
    parser.add_argument("--layer", action="store_true", help="only the layer alone: the driver stubbed, no server")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, *ALONE], metavar="PART", help="only these parts")
    parser.add_argument("--check", action="store_true", help="print the targets, reached or not")
    parser.add_argument(
        "--save",
        type=Path,
        nargs="?",
        const=_RESULTS,
        metavar="FOLDER",
        help=f"write results.json and the charts, to {_RESULTS.relative_to(Path(__file__).parents[1])} by default",
    )
    arguments = parser.parse_args()
    if arguments.check and arguments.smoke:
        parser.error("--check has nothing to go by where each call is made once: use --quick")
    return arguments


def _about(server: Server | None) -> dict[str, t.Any]:
    about = {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }
    if server is None:
        return about
    with connect(server.uri) as client:
        return {**about, "mongodb": client.server_info()["version"]}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _rounded(value: t.Any) -> t.Any:
    """Four digits say more than was measured."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
