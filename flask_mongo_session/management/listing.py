"""Which sessions a list shows: by what is stored beside the data, in constant memory."""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
import typing as t

from flask_mongo_session.document import filters
from flask_mongo_session.document.record import SessionInfo, user_text

if t.TYPE_CHECKING:
    from flask_mongo_session.store import MongoSessionStore

Network: t.TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_FIELDS = dict.fromkeys(SessionInfo._fields, True)
#: Seconds that looking through all sessions may take.
_SECONDS = 600.0


class Wanted(t.NamedTuple):
    """What a list is to show; the defaults are all live sessions."""

    user: str | None = None
    #: An address, or a network that it is in.
    network: Network | None = None
    #: Whether a device, by its name, is wanted.
    device: t.Callable[[str | None], bool] | None = None
    #: When it was active last (UTC).
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    expired: bool = False
    #: Only those in which nobody is logged in.
    anonymous: bool = False

    def filter(self, now: dt.datetime) -> filters.Filter:
        """What the database can decide."""
        chosen = filters.expired(now) if self.expired else filters.live(now)
        active = {"$gte": self.since, "$lt": self.until}
        if self.since or self.until:
            chosen["touched_at"] = {operator: moment for operator, moment in active.items() if moment}
        if self.user is not None:
            chosen["user_id"] = user_text(self.user) or ""
        elif self.anonymous:
            chosen["user_id"] = None

        return chosen

    def matches(self, info: SessionInfo) -> bool:
        """What the database cannot decide."""
        if self.network is not None and not _is_within(info.ip, self.network):
            return False

        return self.device is None or self.device(info.user_agent)


def search(store: MongoSessionStore, wanted: Wanted, limit: int) -> list[SessionInfo]:
    """The sessions, of one user newest activity first, else those that expire last; one indexed query."""
    order = "expires_at" if wanted.user is None else "touched_at"
    with store.connection.background_operation(_SECONDS):
        found = store.collection.find(wanted.filter(store.connection.now()), _FIELDS, sort=[(order, -1)])
        infos = (info for info in map(SessionInfo.of, found) if wanted.matches(info))
        return list(itertools.islice(infos, limit))


def _is_within(stored: str | None, wanted: Network) -> bool:
    """Whether an address, or the network that is kept in its place, has to do with the one that is wanted."""
    try:
        network = ipaddress.ip_network(stored or "", strict=False)
    except ValueError:
        return False

    return network.version == wanted.version and network.overlaps(wanted)
