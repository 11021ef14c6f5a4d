"""A session as its owner sees it, and what counts as a new device. Pure, but for the name of a place."""

from __future__ import annotations

import datetime as dt
import typing as t
from dataclasses import dataclass

from flask_mongo_session import SessionInfo

from .names import device_name, device_text, time_ago
from .places import PlaceName, network_of, place_of

_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.timezone.utc)


@dataclass(frozen=True)
class Device:
    """A session as its owner sees it."""

    #: The session id, the handle by which it is ended.
    sid: str
    name: str
    #: The address as stored; pages show :attr:`network`.
    ip: str | None
    #: The network that the address is in, and what the application calls that place.
    network: str | None
    place: str | None
    #: Its last activity, as a date (UTC) and as people say it.
    active_at: dt.datetime | None
    active: str
    #: Since when the user is logged in there (UTC).
    since: dt.datetime | None
    #: Whether it is the one that is asking.
    this_one: bool
    #: Whether it is a device that the user's sessions from before do not know; see :func:`is_new`.
    new: bool

    @property
    def where(self) -> str | None:
        """The place with its network, as far as known: "Lisbon (198.51.100.0/24)"."""
        return f"{self.place} ({self.network})" if self.place and self.network else self.place or self.network


class Viewer(t.NamedTuple):
    """For whom devices are described: the session that asks, the database's now, how the application names places."""

    sid: str | None
    now: dt.datetime
    place: PlaceName | None
    #: How long a device is called new.
    new_for: dt.timedelta

    def device(self, info: SessionInfo, sessions: t.Iterable[SessionInfo]) -> Device:
        """*info* among all *sessions* of its user."""
        this_one = info.sid == self.sid
        recent = self.now - began(info) < self.new_for
        return Device(
            sid=info.sid,
            name=device_text(info.user_agent),
            ip=info.ip,
            network=network_of(info.ip),
            place=place_of(info.ip, self.place),
            active_at=info.touched_at,
            active=time_ago(info.touched_at, self.now),
            since=info.authenticated_at,
            this_one=this_one,
            new=not this_one and recent and is_new(info, sessions),
        )


def is_new(info: SessionInfo, sessions: t.Iterable[SessionInfo]) -> bool:
    """Whether no session of the user that began earlier has the same name of a device in the same network.

    Decided from what is stored anyway: ``user_agent`` and ``ip`` of the sessions that are alive, ``authenticated_at``
    and ``created_at``. Without ``SESSION_TRACK_DEVICE`` nothing is known of a device, and none is new.
    """
    if not (info.ip or info.user_agent):
        return False

    return not any(_traits(other) == _traits(info) for other in sessions if _order(other) < _order(info))


def began(info: SessionInfo) -> dt.datetime:
    """When the user logged in there, else when the session began."""
    return info.authenticated_at or info.created_at or _LONG_AGO


def _order(info: SessionInfo) -> tuple[dt.datetime, str]:
    """Of two that began in the same millisecond one is the earlier one all the same."""
    return began(info), info.sid


def _traits(info: SessionInfo) -> tuple[str, str | None]:
    """A browser that was updated is the same, and so is another address in the same network."""
    return device_name(info.user_agent), network_of(info.ip)
