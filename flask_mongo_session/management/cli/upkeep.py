"""Commands that keep the store in order: sweeping, indexes, the doctor."""

from __future__ import annotations

import sys
import time
import typing as t

import click
from flask import current_app

from flask_mongo_session.management.doctor import WRONG

from .common import command, extension, json_option
from .output import print_json, print_table


@command("sessions-cleanup")
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1_000, show_default=True, help="Records per command.")
def sessions_cleanup(*, dry_run: bool, batch_size: int) -> None:
    """Remove expired sessions now."""
    store = current_app.extensions["mongo_session"].store
    began = time.monotonic()

    expired = store.count_expired() if dry_run or sys.stdout.isatty() else 0
    removed = 0 if dry_run else _remove(store, expired, batch_size)
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


@command("indexes")
def indexes() -> None:
    """Create missing indexes, and wait for them."""
    extension().store.ensure_indexes()
    click.echo("All indexes are there.")


@command("doctor")
@json_option
def doctor(*, as_json: bool) -> None:
    """Look for what is wrong with configuration and database; exit code 1 when something is."""
    findings = extension().examine()
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = [(finding.verdict.upper(), finding.name, finding.message) for finding in findings]
        print_table(("", "WHAT", "SEEN"), rows)
    if any(finding.verdict == WRONG for finding in findings):
        raise click.exceptions.Exit(1)
