"""What is to be reached, beside what was measured: ``python -m benchmarks --check``."""

from __future__ import annotations

import typing as t

from benchmarks.views import CASES

Results = dict[str, t.Any]

_MANY = 100_000


class Target(t.NamedTuple):
    """A figure that is to be at most *limit*, or at least where *least*."""

    what: str
    value: float | None
    limit: float
    least: bool = False

    @property
    def reached(self) -> bool | None:
        """``None`` where it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit


def targets(results: Results) -> list[Target]:
    """Those of requests and of the store, then of the layer alone, then of many sessions, then of the import."""
    return [*_requests(results), *_layer(results), *_operations(results), *_scale(results), *_imports(results)]


def text(results: Results) -> str:
    """One line for each target, and how many are reached."""
    verdicts = {True: "reached", False: "NOT reached", None: "not measured"}
    found = targets(results)
    lines = ["", "Targets (ratios of medians of one run)", ""]
    for target in found:
        figure = "-" if target.value is None else f"{target.value:.2f}"
        sign = ">=" if target.least else "<="
        lines.append(f"  {target.what:56}{figure:>9}  {sign} {target.limit:<6g}{verdicts[target.reached]}")

    measured = [target.reached for target in found if target.reached is not None]
    return "\n".join([*lines, "", f"  {sum(measured)} of {len(measured)} measured targets reached"])


def _requests(results: Results) -> t.Iterator[Target]:
    def to_raw(case: str) -> float | None:
        return _at(results, "requests", case, "ours", "to", "raw", "wall")

    read = ("requests", "read", "ours", "wall_us")
    indexed = ("requests", "read", "indexed", "wall_us")
    yield Target("untouched / route without sessions", to_raw("untouched"), 1.15)
    yield Target("read / raw floor", to_raw("read"), 1.03)
    yield Target("changed / raw floor", to_raw("changed"), 1.06)
    yield Target("written blind / find + update", to_raw("blind write"), 0.72)
    yield Target("first write / raw floor", to_raw("first write"), 1.06)
    yield Target("log-in / its two commands, raw", to_raw("log-in"), 1.12)
    yield Target(
        "served read, CPU of client and server / raw floor", _at(results, "served", "ours", "cpu_to", "raw"), 1.04
    )
    yield Target("Flask-Session with index / read", _over(results, indexed, read), 2.0, least=True)


def _layer(results: Results) -> t.Iterator[Target]:
    """An untouched request's layer is next to nothing on either side, so that there the whole request is compared."""
    untouched = _at(results, "layer", "untouched", "ours", "to", "correct", "client")
    yield Target("driver stubbed, untouched request / correct floor", untouched, 1.2)
    for case in CASES:
        if case != "untouched":
            value = _at(results, "layer", case, "ours", "layer_to_correct")
            yield Target(f"layer alone, {case} / correct floor", value, 1.2)


def _operations(results: Results) -> t.Iterator[Target]:
    for operation, limit in (("find", 1.0), ("miss", 0.95), ("commit", 1.04), ("delete", 1.05)):
        value = _at(results, "operations", operation, "ours", "to", "base", "wall")
        yield Target(f"store's {operation} / raw", value, limit)
    declared = _at(results, "operations", "declared", "declared", "to", "base", "wall")
    yield Target("find with ten declared fields / free form", declared, 1.1)


def _scale(results: Results) -> t.Iterator[Target]:
    """Of fewer than a hundred thousand sessions a sweep is over before anything can be said about it."""
    scale = results.get("scale") or {}
    many = scale if scale.get("sessions", 0) >= _MANY else {}
    p99 = _over(many, ("sweep", "ours", "finds", "p99_us"), ("sweep", "raw", "finds", "p99_us"))
    memory = _at(many, "iterate", "iterate", "memory")
    yield Target("finds beside a sweep, p99 / beside one delete_many", p99, 0.7)
    yield Target("sweep, rate / one delete_many", _at(many, "sweep", "ratio"), 0.8, least=True)
    yield Target("find among all / among 1,000", _at(many, "find", "all", "to", "a thousand", "wall"), 1.15)
    yield Target("iterate() / raw cursor", _at(many, "iterate", "iterate", "ratio"), 1.15)
    yield Target("iterate(), MB more memory", None if memory is None else memory / 1e6, 20)


def _imports(results: Results) -> t.Iterator[Target]:
    memory = _at(results, "imports", "memory")
    yield Target("import over flask + mongoengine, CPU", _at(results, "imports", "ratio"), 1.05)
    yield Target("import over flask + mongoengine, MB", None if memory is None else memory / 1e6, 1.5)


def _at(results: Results, *path: str) -> float | None:
    found: t.Any = results
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _over(results: Results, path: tuple[str, ...], base: tuple[str, ...]) -> float | None:
    value, other = _at(results, *path), _at(results, *base)
    return None if value is None or other is None else value / other
