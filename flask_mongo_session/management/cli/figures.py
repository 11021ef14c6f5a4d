"""Commands that count: once, or once a second."""

from __future__ import annotations

import time

import click

from flask_mongo_session.exceptions import SessionStoreUnavailable
from flask_mongo_session.management.pulse import Beat, Pulse

from .common import command, extension, json_option, unavailable
from .output import print_json, print_table, time_of

_SERIES = ("active", "created", "expiring", "sizes", "per_user")


@command("stats")
@json_option
def stats(*, as_json: bool) -> None:
    """Tell how many sessions there are, how active and how large. Ended sessions are none."""
    figures = extension().figures()
    if as_json:
        print_json({**figures._asdict(), **{name: dict(getattr(figures, name)) for name in _SERIES}})
        return

    about = "about " if figures.estimated else ""
    rows = [("live", f"{about}{figures.live}"), ("expired, not swept yet", str(figures.expired))]
    rows.append(("with a user", f"{about}{figures.with_user}"))
    rows += [(f"active in the last {span}", f"{about}{count}") for span, count in figures.active]
    rows.append(("average size", f"{about}{figures.average_size} bytes"))
    rows += [(f"users with {name} sessions", f"{percent} %") for name, percent in figures.per_user]
    rows += [(f"sweep {time_of(run['at'])}", f"{run['count']} in {run['seconds']} s") for run in figures.sweeps[:5]]
    print_table(("", ""), rows)


@command("watch")
@click.option("--lines", type=click.IntRange(min=1), help="End after so many lines; else with Ctrl-C.")
def watch(*, lines: int | None) -> None:
    """Tell once a second how many sessions are live, and how many were created, ended, expired and rejected.

    Rejected are forged cookies and those of sessions that are over, as the mean of a minute: each process tells of
    them once in SESSION_CLEANUP_INTERVAL, and not at all where that is 0.
    """
    pulse, written = Pulse(extension().store), 0
    try:
        _print_beat(pulse)
        while lines is None or written < lines:
            time.sleep(1)
            _print_beat(pulse)
            written += 1
    except KeyboardInterrupt:
        click.echo()


def _print_beat(pulse: Pulse) -> None:
    """One line; an outage is a line, too, and the next look goes on."""
    try:
        beat = pulse.beat()
    except SessionStoreUnavailable as error:
        click.echo(f"{time.strftime('%H:%M:%S', time.gmtime())}  {unavailable(error)}")
        return

    if not beat.seconds:
        click.echo(f"{'UTC':8}  {'live':>10}  {'created/s':>9}  {'ended/s':>9}  {'expired/s':>9}  {'rejected/s':>10}")
        return
    rates = "  ".join(f"{_rate(count, beat):>9}" for count in (beat.created, beat.ended, beat.expired))
    rejected = "-" if beat.rejected is None else _number(beat.rejected)
    click.echo(f"{beat.at:%H:%M:%S}  {beat.live:>10}  {rates}  {rejected:>10}")


def _rate(count: int, beat: Beat) -> str:
    return _number(count / beat.seconds)


def _number(rate: float) -> str:
    return f"{rate:.1f}".removesuffix(".0")
