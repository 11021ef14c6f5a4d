"""Commands that end sessions."""

from __future__ import annotations

import click

from .common import command, extension, whole_id, yes_option
from .output import count_of

_keep_option = click.option("--keep", metavar="SESSION_ID", multiple=True, help="All but this one; may be repeated.")


@command("revoke")
@click.argument("session_id")
def revoke(*, session_id: str) -> None:
    """End a session. The beginning of its id will do where no other begins so."""
    extension().revoke(whole_id(session_id))
    click.echo("Ended 1 session.")


@command("revoke-user")
@click.argument("user")
@_keep_option
def revoke_user(*, user: str, keep: tuple[str, ...]) -> None:
    """End all sessions of a user."""
    kept = [whole_id(sid) for sid in keep]
    click.echo(f"Ended {count_of(extension().revoke_user(user, kept))}.")


@command("revoke-all")
@_keep_option
@yes_option
def revoke_all(*, keep: tuple[str, ...], yes: bool) -> None:
    """End everybody's sessions, as after a breach: everybody has to log in again."""
    kept = [whole_id(sid) for sid in keep]
    if not yes:
        click.confirm(f"End everybody's sessions{f' but {len(kept)}' if kept else ''}?", abort=True)

    click.echo(f"Ended {count_of(extension().revoke_all(kept))}.")


@command("erase-user")
@click.argument("user")
@yes_option
def erase_user(*, user: str, yes: bool) -> None:
    """Remove all that is stored of a user's sessions."""
    if not yes:
        click.confirm(f"Remove all sessions of user {user!r}, and log them out?", abort=True)

    click.echo(f"Removed {count_of(extension().erase_user(user))}, and what had expired.")
