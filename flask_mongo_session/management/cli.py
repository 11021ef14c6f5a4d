"""The commands of ``flask``: thin, over functions of the store, which is found through ``app.extensions``."""

from __future__ import annotations

import datetime as dt
import functools
import json
import sys
import time
import typing as t

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext
from pymongo.errors import PyMongoError
from werkzeug.exceptions import ServiceUnavailable

from flask_mongo_session.exceptions import SetupError

if t.TYPE_CHECKING:
    from flask import Flask

    from flask_mongo_session.extension import MongoSession

Command = t.TypeVar("Command", bound=t.Callable[..., None])

sessions = AppGroup("sessions", help="Look at sessions and end them.")


def register(app: Flask) -> None:
    """Add the commands to *app*."""
    app.cli.add_command(sessions_cleanup)
    app.cli.add_command(sessions_cleanup, "session_cleanup")
    app.cli.add_command(sessions)


@click.command("sessions-cleanup")
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1_000, show_default=True, help="Records per command.")
@with_appcontext
def sessions_cleanup(*, dry_run: bool, batch_size: int) -> None:
    """Remove expired sessions now."""
    store = current_app.extensions["mongo_session"].store
    began = time.monotonic()

    try:
        expired = store.count_expired() if dry_run or sys.stdout.isatty() else 0
        removed = 0 if dry_run else _remove(store, expired, batch_size)
    except Exception as error:
        raise _one_line(error) from error

    if dry_run:
        click.echo(f"{expired} expired sessions would be removed.")
    else:
        click.echo(f"Removed {removed} expired sessions in {time.monotonic() - began:.2f} seconds.")


def _remove(store: t.Any, expected: int, batch_size: int) -> int:
    if not sys.stdout.isatty():
        return sum(store.remove_batches(batch_size))

    removed = 0
    with click.progressbar(length=expected, label="Removing expired sessions") as bar:
        for count in store.remove_batches(batch_size):
            removed += count
            bar.update(count)

    return removed


def _one_line(error: Exception) -> Exception:
    """The system's failures as one line and exit code 1; a defect keeps its traceback."""
    if isinstance(error, SetupError):
        return click.ClickException(str(error))
    if isinstance(error, (ServiceUnavailable, PyMongoError)):
        reason = str(error.__cause__ or error).partition(", Timeout: ")[0].partition(", Topology Description")[0]
        return click.ClickException(f"The session store is unavailable: {' '.join(reason.split())}")

    return error


# -- flask sessions … -------------------------------------------------------------------------------------------------


def _reporting(command: Command) -> Command:
    """The system's failures as one line."""

    @functools.wraps(command)
    def reporting(*args: t.Any, **kwargs: t.Any) -> None:
        try:
            command(*args, **kwargs)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            raise _one_line(error) from error

    return t.cast("Command", reporting)


#: An id may begin with a dash; it is no option then.
_ANY_ARGUMENT = {"ignore_unknown_options": True}
_json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@sessions.command("list")
@click.option("--user", help="Only this user's, newest activity first; else those that expire last.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@_json_option
@_reporting
def list_sessions(*, user: str | None, limit: int, as_json: bool) -> None:
    """List live sessions."""
    found = _extension().recent(limit) if user is None else _extension().of_user(user, limit)
    if as_json:
        _print_json([info._asdict() for info in found])
        return

    rows = [
        (info.sid, info.user_id or "–", _time(info.touched_at), _time(info.expires_at), _device(info)) for info in found
    ]
    _print_table(("SESSION", "USER", "LAST ACTIVITY", "EXPIRES", "DEVICE"), rows)


@sessions.command("show", context_settings=_ANY_ARGUMENT)
@click.argument("session_id")
@_json_option
@_reporting
def show(*, session_id: str, as_json: bool) -> None:
    """Show a session and its data; values of SESSION_ADMIN_HIDE keys are masked."""
    description = _extension().describe(session_id)
    if description is None:
        raise click.ClickException("There is no such session.")
    if as_json:
        _print_json(description)
        return

    data = description.pop("data")
    _print_table(("", ""), [*description.items(), *((f"[{key}]", json.dumps(value)) for key, value in data.items())])


@sessions.command("revoke", context_settings=_ANY_ARGUMENT)
@click.argument("session_id")
@_reporting
def revoke(*, session_id: str) -> None:
    """End a session."""
    if not _extension().revoke(session_id):
        raise click.ClickException("There is no such live session.")

    click.echo("Ended 1 session.")


@sessions.command("revoke-user", context_settings=_ANY_ARGUMENT)
@click.argument("user")
@click.option("--keep", metavar="SESSION_ID", help="All but this one.")
@_reporting
def revoke_user(*, user: str, keep: str | None) -> None:
    """End all sessions of a user."""
    click.echo(f"Ended {_count(_extension().revoke_user(user, keep))}.")


@sessions.command("stats")
@_json_option
@_reporting
def stats(*, as_json: bool) -> None:
    """Tell how many sessions there are, how active and how large."""
    figures = _extension().figures()
    if as_json:
        _print_json(figures._asdict())
        return

    about = "about " if figures.estimated else ""
    rows = [("live", str(figures.live)), ("expired, not swept yet", str(figures.expired))]
    rows.append(("with a user", f"{about}{figures.with_user}"))
    rows += [(f"active in the last {span}", f"{about}{count}") for span, count in figures.active]
    rows.append(("average size", f"{about}{figures.average_size} bytes"))
    rows += [(f"users with {name} sessions", f"{percent} %") for name, percent in figures.per_user]
    rows += [(f"sweep {_time(run['at'])}", f"{run['count']} in {run['seconds']} s") for run in figures.sweeps[:5]]
    _print_table(("", ""), rows)


@sessions.command("indexes")
@_reporting
def indexes() -> None:
    """Create missing indexes, and wait for them."""
    _extension().store.ensure_indexes()
    click.echo("All indexes are there.")


@sessions.command("doctor")
@_json_option
@_reporting
def doctor(*, as_json: bool) -> None:
    """Look for what is wrong with configuration and database; exit code 1 when something is."""
    findings = _extension().examine()
    if as_json:
        _print_json([finding._asdict() for finding in findings])
    else:
        rows = [(finding.verdict.upper(), finding.name, finding.message) for finding in findings]
        _print_table(("", "WHAT", "SEEN"), rows)
    if any(finding.verdict == "wrong" for finding in findings):
        raise click.exceptions.Exit(1)


@sessions.command("export-user", context_settings=_ANY_ARGUMENT)
@click.argument("user")
@_reporting
def export_user(*, user: str) -> None:
    """Print all that is stored in a user's sessions, as JSON."""
    _print_json(_extension().export_user(user))


@sessions.command("erase-user", context_settings=_ANY_ARGUMENT)
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_reporting
def erase_user(*, user: str, yes: bool) -> None:
    """Remove all that is stored of a user's sessions."""
    if not yes:
        click.confirm(f"Remove all sessions of user {user!r}, and log them out?", abort=True)

    click.echo(f"Removed {_count(_extension().erase_user(user))}, and what had expired.")


def _extension() -> MongoSession:
    return t.cast("MongoSession", current_app.extensions["mongo_session"].extension)


def _count(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


def _time(moment: dt.datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "–"


def _device(info: t.Any) -> str:
    return " ".join(part for part in (info.ip, (info.user_agent or "")[:60]) if part) or "–"


def _print_json(value: t.Any) -> None:
    click.echo(json.dumps(value, indent=2, default=dt.datetime.isoformat))


def _print_table(head: tuple[str, ...], rows: t.Iterable[t.Iterable[t.Any]]) -> None:
    """Columns as wide as what is in them, without control characters; times are UTC."""
    lines = [tuple(_printable(str(cell)) for cell in row) for row in rows]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    for line in (head, *lines) if any(head) else lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
