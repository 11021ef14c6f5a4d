"""The commands of ``flask``: thin, over functions of the store, which is found through ``app.extensions``."""

from __future__ import annotations

import sys
import time
import typing as t

import click
from flask import current_app
from flask.cli import with_appcontext

if t.TYPE_CHECKING:
    from flask import Flask


def register(app: Flask) -> None:
    """Add the commands to *app*."""
    app.cli.add_command(sessions_cleanup)
    app.cli.add_command(sessions_cleanup, "session_cleanup")


@click.command("sessions-cleanup")
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
@click.option("--batch-size", type=click.IntRange(min=1), default=5_000, show_default=True, help="Records per command.")
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
    if getattr(error, "code", None) == 503:  # noqa: PLR2004 - SessionStoreUnavailable, an HTTP 503
        return click.ClickException(f"The session store is unavailable: {error.__cause__ or error}")

    return error
