"""``flask sessions migrate``: moves the sessions that another library kept, all at once."""

from __future__ import annotations

import collections
import typing as t

import click
from flask import current_app

from .common import command, failure


@command("migrate")
@click.option("--from", "names", multiple=True, help="The library; all of SESSION_MIGRATE_FROM by default.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--batch-size", type=click.IntRange(min=1), default=500, show_default=True, help="Sessions per command.")
def migrate(*, names: tuple[str, ...], dry_run: bool, batch_size: int) -> None:
    """Move the sessions of Flask-Session or flask-mongoengine; nobody is logged out.

    Killed in between, it goes on where it was when it is started again.
    """
    migration = getattr(current_app.session_interface, "migration", None)
    if migration is None:
        raise failure("Set SESSION_MIGRATE_FROM, so that old cookies find the sessions that are moved.")

    for name in names or migration.in_bulk():
        bulk = migration.bulk(t.cast("t.Any", current_app)._get_current_object(), name)  # noqa: SLF001 - not its proxy
        if bulk is None:
            known = ", ".join(migration.in_bulk()) or "none"
            raise failure(f"{name!r} cannot be moved at once; SESSION_MIGRATE_FROM allows: {known}.")
        _move(name, bulk, batch_size, dry_run=dry_run)
    if not names and not migration.in_bulk():
        click.echo("Sessions in cookies move one by one, when their visitors come.")


def _move(name: str, bulk: t.Any, batch_size: int, *, dry_run: bool) -> None:
    counts: collections.Counter[str] = collections.Counter(moved=0, skipped=0, refused=0)
    doing = "Counting sessions of {} in {}" if dry_run else "Moving sessions of {} from {}"
    with click.progressbar(length=bulk.count(), label=doing.format(name, bulk.place)) as bar:
        for batch in bulk.run(batch_size, dry_run=dry_run):
            counts.update(batch)
            bar.update(batch.total())

    would = "Would move" if dry_run else "Moved"
    click.echo(
        f"{would} {counts['moved']} sessions of {name}; skipped {counts['skipped']} "
        f"(expired, empty, revoked, or moved before), refused {counts['refused']}."
    )
