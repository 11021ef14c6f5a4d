"""Bar charts drawn on the server: SVG that needs no script, and says in words what it shows."""

from __future__ import annotations

import typing as t

from markupsafe import Markup

from flask_mongo_session import Figures

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 480, 200, 26, 26
_GAP = 0.25
_MANY = 12

Series = t.Sequence[tuple[str, int]]


def bar_chart(series: Series, label: str, unit: str = "") -> Markup:
    """*series* as bars, one for each (name, value); *label* says what they are, *unit* follows each value."""
    highest = max((value for _, value in series), default=0) or 1
    step = _WIDTH / max(len(series), 1)
    bars = Markup("").join(
        _bar(name, f"{value}{unit}", number * step, step, value / highest)
        for number, (name, value) in enumerate(series)
    )
    figures = Markup("").join(_figures(series, highest, step, unit))
    names = Markup("").join(_names(series, step))
    line = _HEIGHT - _BOTTOM

    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>{}{}{}</svg>'
    ).format(_WIDTH, _HEIGHT, _in_words(series, label, unit), _WIDTH, line, line, bars, figures, names)


def _bar(name: str, said: str, left: float, step: float, share: float) -> Markup:
    height = (_HEIGHT - _TOP - _BOTTOM) * share
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {}</title></rect>').format(
        left + step * _GAP / 2, _HEIGHT - _BOTTOM - height, step * (1 - _GAP), height, name, said
    )


def _figures(series: Series, highest: int, step: float, unit: str) -> t.Iterator[Markup]:
    """Over every bar, or over the first of the highest where the bars are narrow."""
    narrow = len(series) > _MANY
    for number, (_, value) in enumerate(series):
        if value and (value == highest or not narrow):
            x = min(max(number * step + step / 2, 20), _WIDTH - 20)
            y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / highest - 6
            yield Markup('<text class="value" x="{:.1f}" y="{:.1f}">{}{}</text>').format(x, y, short(value), unit)
            if narrow:
                return


def _names(series: Series, step: float) -> t.Iterator[Markup]:
    every = 1 if len(series) < _MANY else 4
    for number, (name, _) in enumerate(series):
        if number % every == 0:
            x = max(number * step + step / 2, 20)
            yield Markup('<text x="{:.1f}" y="{}">{}</text>').format(x, _HEIGHT - 7, name)


def _in_words(series: Series, label: str, unit: str) -> str:
    if len(series) < _MANY:
        return f"{label}: " + ", ".join(f"{name}: {value}{unit}" for name, value in series)

    name, value = max(series, key=lambda pair: pair[1], default=("", 0))
    total = sum(value for _, value in series)
    return f"{label}: {total}{unit} in all, most at {name} with {value}{unit}" if value else f"{label}: none"


def short(value: float) -> str:
    """A count that fits over a bar: 950, 1.2 k, 3.4 M."""
    for limit, divisor, letter in ((10_000, 1, ""), (1_000_000, 1_000, " k"), (10**12, 1_000_000, " M")):
        if value < limit:
            number = f"{value / divisor:.1f}" if divisor > 1 else f"{value:,.0f}"
            return number.removesuffix(".0") + letter

    return f"{value:.1e}"


def overview_cards(figures: Figures) -> list[tuple[str, str]]:
    """The figures that the overview begins with: what they say, and how many."""
    about = "≈ " if figures.estimated else ""
    cards = [("Live now", short(figures.live)), ("Logged in", about + short(figures.with_user))]
    cards += [(f"Active in {span}", about + short(count)) for span, count in figures.active]

    return [
        *cards,
        ("Expired, not swept", short(figures.expired)),
        ("Average size", f"{about}{short(figures.average_size)} B"),
    ]


def overview_charts(figures: Figures) -> list[tuple[str, Markup]]:
    """The pictures of the overview with their titles."""
    return [
        ("Created per hour (UTC)", bar_chart(figures.created, "Sessions created per hour")),
        ("Expiring per hour (UTC)", bar_chart(figures.expiring, "Sessions expiring per hour")),
        ("Sizes", bar_chart(figures.sizes, "Sessions by size")),
        ("Users by number of sessions", bar_chart(figures.per_user, "Users by number of sessions", " %")),
    ]
