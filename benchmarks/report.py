"""What was measured, as a table for people and a chart for the README."""

from __future__ import annotations

import typing as t
from html import escape

from benchmarks.contenders import NAMES
from benchmarks.requests import BASES

Results = dict[str, t.Any]


class Goal(t.NamedTuple):
    """A figure that is promised: reached at most at *limit*, or at least where *least*."""

    what: str
    value: float | None
    limit: float
    least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit


def goals(results: Results) -> list[Goal]:
    """All that the project wants to reach, with what was measured."""

    def at(*path: str) -> float | None:
        found: t.Any = results
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def over(path: tuple[str, ...], base: tuple[str, ...]) -> float | None:
        value, other = at(*path), at(*base)
        return None if value is None or other is None else value / other

    def request(case: str, who: str = "ours") -> tuple[str, ...]:
        return ("requests", case, who, "wall_us")

    read, sweep = request("read"), ("scale", "sweep")
    memory = at("scale", "iterate", "iterate", "memory")
    import_memory = at("imports", "memory")
    return [
        Goal("untouched request / route without sessions", at("requests", "untouched", "ours", "ratio"), 1.3),
        Goal("untouched request / signed cookie", over(request("untouched"), request("untouched", "cookie")), 0.8),
        Goal("read-only request / floor", at("requests", "read", "ours", "ratio"), 1.0),
        Goal("Flask-Session with index / read-only request", over(request("read", "indexed"), read), 2, least=True),
        Goal("Flask-Session as shipped / read-only request", over(request("read", "shipped"), read), 3, least=True),
        Goal("changed after reading / floor", at("requests", "changed", "ours", "ratio"), 1.05),
        Goal("written without reading / floor of find + update", at("requests", "blind write", "ours", "ratio"), 0.65),
        Goal("anonymous, first write / floor", at("requests", "first write", "ours", "ratio"), 1.05),
        Goal("log-in / floor", at("requests", "log-in", "ours", "ratio"), 1.1),
        Goal("store.find / raw", at("operations", "find", "ours", "ratio"), 1.0),
        Goal("store.find of nothing / raw", at("operations", "miss", "ours", "ratio"), 1.0),
        Goal("store.commit / raw", at("operations", "commit", "ours", "ratio"), 1.05),
        Goal("store.delete / raw", at("operations", "delete", "ours", "ratio"), 1.05),
        Goal("ten declared fields / free form", at("operations", "declared", "declared", "ratio"), 1.1),
        Goal("served read, CPU / floor", at("served", "ours", "cpu_ratio"), 1.05),
        Goal("served read, CPU / Flask-Session with index", at("served", "ours", "cpu_ratio_to_indexed"), 0.52),
        Goal("find among all / among 1,000", at("scale", "find", "all", "ratio"), 1.15),
        Goal(
            "requests/s beside many sessions / beside none",
            _inverse(at("scale", "requests", "crowded", "ratio")),
            0.95,
            least=True,
        ),
        Goal(
            "requests/s beside many / Flask-Session as shipped",
            over(("scale", "requests", "shipped", "wall_us"), ("scale", "requests", "crowded", "wall_us")),
            50,
            least=True,
        ),
        Goal("sweep / raw delete_many", at(*sweep, "ratio"), 0.8, least=True),
        Goal(
            "finds beside the sweep, median / quiet",
            over((*sweep, "ours", "finds", "median_us"), (*sweep, "quiet", "median_us")),
            1.0,
        ),
        Goal(
            "finds beside the sweep, p99 / quiet",
            over((*sweep, "ours", "finds", "p99_us"), (*sweep, "quiet", "p99_us")),
            1.5,
        ),
        Goal("iterate() / raw cursor", at("scale", "iterate", "iterate", "ratio"), 1.15),
        Goal("iterate(), MB more memory", None if memory is None else memory / 1e6, 20),
        Goal("import over flask + mongoengine, CPU", at("imports", "ratio"), 1.05),
        Goal("import over flask + mongoengine, MB", None if import_memory is None else import_memory / 1e6, 1.5),
    ]


def _inverse(value: float | None) -> float | None:
    return None if value is None else 1 / value


def text(results: Results) -> str:
    """The tables."""
    lines: list[str] = []
    for part, title in (("requests", "Whole requests, in process"), ("operations", "Store operations")):
        lines += ["", title]
        for case, rows in results.get(part, {}).items():
            base = BASES.get(case, "free form" if case == "declared" else "raw")
            lines += ["", f"  {case}: {NAMES.get(base, base)} = 1.00", _HEAD]
            lines += [_row(NAMES.get(name, name), row) for name, row in rows.items()]

    lines += ["", "Goals", ""]
    for goal in goals(results):
        verdict = {True: "reached", False: "NOT reached", None: "not measured"}[goal.reached]
        figure = "-" if goal.value is None else f"{goal.value:.2f}"
        lines.append(f"  {goal.what:52}{figure:>9}  {'>=' if goal.least else '<='} {goal.limit:<6g}{verdict}")

    return "\n".join(lines)


_HEAD = f"    {'':36}{'ratio':>6}  {'quartiles':13}{'client CPU':>11}{'server CPU':>12}{'bytes':>7}  commands"


def _row(name: str, row: Results) -> str:
    spread = f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
    commands = " + ".join(row["commands"]) or "none"
    return (
        f"    {name:36}{row['ratio']:6.2f}  {spread:13}{row['client_us']:8.0f} us{row['server_us']:9.0f} us"
        f"{row['bytes']:7}  {commands}"
    )


# -- the chart --------------------------------------------------------------------------------------------------------

_SHOWN = {
    "ours": "#13795b",
    "cookie": "#9aa5b1",
    "mongoengine": "#c58b2a",
    "indexed": "#7c8fd9",
    "shipped": "#4a5fc1",
}
_CASES = ("untouched", "read", "changed", "first write")
_WIDTH, _LEFT, _BAR, _GAP, _TOP = 760, 130, 13, 26, 82
_TEXT = 'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933"'


def svg(results: Results) -> str:
    """Bars: time of a request, with that of Flask and exactly the raw calls as the unit."""
    unit = {case: results["requests"]["read" if case == "untouched" else case]["floor"]["wall_us"] for case in _CASES}
    rows = {
        case: {
            key: results["requests"][case][key]["wall_us"] / unit[case]
            for key in _SHOWN
            if key in results["requests"][case]
        }
        for case in _CASES
    }
    widest = max(value for row in rows.values() for value in row.values())
    scale = (_WIDTH - _LEFT - 60) / widest
    height = _TOP + sum(len(row) * _BAR + _GAP for row in rows.values()) + 30

    parts = [_rect(0, 0, _WIDTH, height, "#ffffff"), *_legend(rows)]
    top = _TOP
    for case, row in rows.items():
        parts.append(_label(_LEFT - 10, top + len(row) * _BAR / 2 + 4, case, anchor="end"))
        for key, value in row.items():
            parts.append(_rect(_LEFT, top, max(value * scale, 1), _BAR - 2, _SHOWN[key]))
            parts.append(_label(_LEFT + value * scale + 5, top + _BAR - 3, f"{value:.2f}"))
            top += _BAR
        top += _GAP

    line = _LEFT + scale
    parts.append(f'<path d="M{line:.1f} {_TOP - 8}V{top - _GAP + 8:.0f}" stroke="#1f2933" stroke-dasharray="3 3"/>')
    parts.append(
        _label(
            line,
            top - _GAP + 24,
            "1.00 = Flask and exactly the raw calls (of a read where untouched)",
            anchor="middle" if line > 300 else "start",
        )
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="Time of a request by kind of session">\n{body}\n</svg>\n'
    )


def _legend(rows: dict[str, dict[str, float]]) -> t.Iterator[str]:
    yield _label(10, 22, "Time of a whole request (less is better)", weight="bold")
    shown = [key for key in _SHOWN if any(key in row for row in rows.values())]
    for number, key in enumerate(shown):
        line, column = divmod(number, 3)
        left, top = 10 + 245 * column, 45 + 19 * line
        yield _rect(left, top - 9, 10, 10, _SHOWN[key])
        yield _label(left + 15, top, NAMES[key])


def _rect(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'


def _label(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" {_TEXT}>{escape(text)}</text>'
