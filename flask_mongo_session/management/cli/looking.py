"""Commands that show sessions, and who ended which."""

from __future__ import annotations

import ipaddress
import json

import click

from flask_mongo_session.management.listing import Network, Wanted, search

from .common import command, extension, json_option, whole_id
from .moments import Moment, before, since_option, until_option
from .output import count_of, device_name, device_of, print_json, print_table, time_of

_limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most."
)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no address: give 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32.") from None


@command("list")
@click.option("--user", help="Only this user's, newest activity first; else those that expire last.")
@click.option("--anonymous", is_flag=True, help="Only those in which nobody is logged in.")
@click.option("--ip", "network", type=_network, metavar="ADDRESS", help="Only from this address or network.")
@click.option("--device", help='Only on such devices, by a part of the name: "Safari", "on iPhone".')
@click.option("--expired", is_flag=True, help="Those that have expired and were not swept yet.")
@since_option
@until_option
@_limit_option
@json_option
def list_sessions(  # noqa: PLR0913 - one for each option
    *,
    user: str | None,
    anonymous: bool,
    network: Network | None,
    device: str | None,
    expired: bool,
    since: Moment,
    until: Moment,
    limit: int,
    as_json: bool,
) -> None:
    """List live sessions. --since and --until look at the last activity."""
    if user is not None and anonymous:
        raise click.UsageError("--anonymous and --user exclude each other.")

    store = extension().store
    now = store.now()
    on_device = None if device is None else (lambda agent: device.lower() in device_name(agent).lower())
    wanted = Wanted(user, network, on_device, before(now, since), before(now, until), expired, anonymous)
    found = search(store, wanted, limit)
    if as_json:
        print_json([{**info._asdict(), "device": device_name(info.user_agent) or None} for info in found])
        return

    rows = [
        (info.sid, info.user_id or "–", time_of(info.touched_at), time_of(info.expires_at), device_of(info))
        for info in found
    ]
    if not rows:
        kind = "" if wanted == Wanted(expired=expired) else " of this kind"
        click.echo(f"There are no {'expired' if expired else 'live'} sessions{kind}.")
        return
    print_table(("SESSION", "USER", "LAST ACTIVITY", "EXPIRES", "DEVICE"), rows)
    if len(rows) == limit:
        click.echo(f"These are {count_of(limit)}; there may be more: --limit shows more of them.", err=True)


@command("show")
@click.argument("session_id")
@json_option
def show(*, session_id: str, as_json: bool) -> None:
    """Show a session and its data; values of SESSION_ADMIN_HIDE keys are masked.

    The beginning of a live session's id will do where no other begins so.
    """
    description = extension().describe(session_id) or extension().describe(whole_id(session_id)) or {}
    if as_json:
        print_json(description)
        return

    data = description.pop("data", {})
    if "user_agent" in description:
        description["device"] = device_name(description["user_agent"])
    print_table(("", ""), [*description.items(), *((f"[{key}]", json.dumps(value)) for key, value in data.items())])


@command("export-user")
@click.argument("user")
def export_user(*, user: str) -> None:
    """Print all that is stored in a user's sessions, as JSON."""
    print_json(extension().export_user(user))


class _Action(click.Choice):  # type: ignore[type-arg] # generic in new versions of click alone
    """What was done, by its name in the records, or as the command is typed and the table shows it."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(super().convert(value.replace("-", "_"), param, ctx))


@command("audit")
@click.option("--user", help="Only what was done to this user's sessions.")
@click.option("--actor", help="Only what this user, or account, did.")
@click.option("--session", "session_id", metavar="SESSION_ID", help="Only what was done to this session.")
@click.option("--action", type=_Action(["revoke", "revoke_user", "revoke_all", "erase_user"]))
@since_option
@until_option
@_limit_option
@json_option
def audit(  # noqa: PLR0913 - one for each option
    *,
    user: str | None,
    actor: str | None,
    session_id: str | None,
    action: str | None,
    since: Moment,
    until: Moment,
    limit: int,
    as_json: bool,
) -> None:
    """Show who ended whose sessions, newest first."""
    now = extension().store.now()
    span = {"since": before(now, since), "until": before(now, until)}
    found = extension().audit(limit, user_id=user, actor=actor, session_id=session_id, action=action, **span)
    if as_json:
        print_json([record._asdict() for record in found])
        return
    if not found:
        click.echo("Nobody ended a session of this kind in the time that is kept (SESSION_AUDIT_LIFETIME).")
        return

    rows = [
        (
            f"{record.at:%Y-%m-%d %H:%M:%S}",
            record.actor or "–",
            f"{record.via} {record.address or ''}".strip(),
            record.action.replace("_", "-"),
            record.user_id or ("everybody" if record.action == "revoke_all" else "–"),
            record.sid or (f"all but {', '.join(record.kept)}" if record.kept else "all"),
            "?" if record.ended is None else str(record.ended),
        )
        for record in found
    ]
    print_table(("WHEN (UTC)", "WHO", "FROM", "WHAT", "WHOSE", "SESSIONS", "ENDED"), rows)
