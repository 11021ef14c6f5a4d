"""What was measured, drawn: bars in SVG, for the README and the documentation."""

from __future__ import annotations

import typing as t
from html import escape

from benchmarks.contenders import NAMES
from benchmarks.server import STANDALONE

Results = dict[str, t.Any]
#: Ratios to the raw floor, by group of bars and contender.
Groups = dict[str, dict[str, float]]

_COLORS = {
    "ours": "#13795b",
    "correct": "#6fbf9f",
    "cookie": "#9aa5b1",
    "mongoengine": "#c58b2a",
    "indexed": "#7c8fd9",
    "shipped": "#4a5fc1",
}
_CASES = ("untouched", "read", "changed", "blind write", "first write")
_WIDTH, _RIGHT, _BAR, _GAP, _TOP = 760, 70, 12, 22, 92
#: Pixels that a letter takes, about.
_LETTER = 6.5
#: The bar of a larger ratio ends there, before dots.
_LONGEST = 6.0
_TEXT = 'font-family="system-ui, sans-serif" font-size="12" fill="#1f2933"'


def charts(results: dict[str, Results]) -> dict[str, str]:
    """SVG by file name, for whatever was measured on each kind of server."""
    drawn = {}
    for kind, parts in results.items():
        suffix = "" if kind == STANDALONE else "-" + kind.replace(" ", "-")
        for part, (title, groups_of) in _CHARTS.items():
            if parts.get(part):
                drawn[f"{part}{suffix}.svg"] = bars(f"{title}, {kind}: less is better", groups_of(parts[part]))
    return drawn


def _requests(cases: Results) -> Groups:
    """An untouched request is compared with a read's raw floor, since it has none of its own."""
    return {case: _ratios(cases[case], cases["read" if case == "untouched" else case]["raw"]) for case in _CASES}


def _sizes(sizes: Results) -> Groups:
    return {
        f"{case}, {size}": _ratios(rows, rows["raw"]) for size, cases in sizes.items() for case, rows in cases.items()
    }


def _sessions(levels: Results) -> Groups:
    return {f"beside {level} sessions": _ratios(rows, rows["raw"]) for level, rows in levels.items()}


_CHARTS: dict[str, tuple[str, t.Callable[[Results], Groups]]] = {
    "requests": ("Time of a whole request (Flask-Session as shipped: 1,000 sessions)", _requests),
    "sizes": ("Time of a request on a large session", _sizes),
    "sessions": ("Time of a read-only request beside other sessions", _sessions),
}


def _ratios(rows: Results, unit: Results) -> dict[str, float]:
    return {key: rows[key]["wall_us"] / unit["wall_us"] for key in _COLORS if key in rows}


def bars(title: str, groups: Groups) -> str:
    """Groups of bars; a line stands at the raw floor, 1.00."""
    widest = min(max(1.0, *(value for row in groups.values() for value in row.values())), _LONGEST)
    left = 20 + _LETTER * max(map(len, groups))
    scale = (_WIDTH - left - _RIGHT) / widest
    height = _TOP + sum(len(row) * _BAR + _GAP for row in groups.values()) + 24

    parts = [_rect(0, 0, _WIDTH, height, "#ffffff"), *_legend(title, groups)]
    top = _TOP
    for name, row in groups.items():
        parts.append(_label(left - 10, top + len(row) * _BAR / 2 + 4, name, anchor="end"))
        for key, value in row.items():
            width = max(min(value, _LONGEST) * scale, 1)
            parts.append(_rect(left, top, width, _BAR - 2, _COLORS[key]))
            parts.append(_label(left + width + 5, top + _BAR - 2, _figure(value)))
            top += _BAR
        top += _GAP

    line, bottom = left + scale, top - _GAP + 8
    parts.append(f'<path d="M{line:.1f} {_TOP - 8}V{bottom:.0f}" stroke="#1f2933" stroke-dasharray="3 3"/>')
    parts.append(_label(left, bottom + 16, "1.00 = the raw floor: Flask and exactly the raw calls"))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}">\n{body}\n</svg>\n'
    )


def _figure(value: float) -> str:
    return f"{value:.2f}" if value <= _LONGEST else f"… {value:,.0f}"


def _legend(title: str, groups: Groups) -> t.Iterator[str]:
    yield _label(10, 22, title, weight="bold")
    shown = [key for key in _COLORS if any(key in row for row in groups.values())]
    for number, key in enumerate(shown):
        line, column = divmod(number, 3)
        left, top = 10 + 245 * column, 45 + 19 * line
        yield _rect(left, top - 9, 10, 10, _COLORS[key])
        yield _label(left + 15, top, NAMES[key])


def _rect(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'


def _label(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" {_TEXT}>{escape(text)}</text>'
