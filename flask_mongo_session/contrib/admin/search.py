"""What the one search field means: a user, a session, an address or network, or a device as the list names it."""

from __future__ import annotations

import typing as t

from flask_mongo_session import MongoSessionStore, SessionInfo
from flask_mongo_session.document.record import user_text

from .addresses import begins_with, is_beginning, lies_in, network_of, prefix_of, spellings
from .naming import device_name, headers_named
from .query import Filter

#: Finds users by what people call them: the text of the search field to user ids.
FindUser = t.Callable[[str], t.Iterable[t.Any]]

#: In the order in which a text is tried; also the words that say which one is meant: "user:ada".
KINDS = ("address", "user", "session", "device")

#: Different headers or addresses that one search looks at, users it takes from the hook, and the least that is taken
#: for a shortened session id.
DISTINCT = {"user_agent": 10_000, "ip": 2_000}
_MOST_USERS = 100
_SHORTEST_ID = 6


class Search(t.NamedTuple):
    """What to look for: a filter on one indexed field."""

    kind: str = ""
    text: str = ""
    field: str = ""
    filter: t.Mapping[str, t.Any] = {}
    #: Whether there were more different values than one search looks at.
    cut: bool = False

    @property
    def user(self) -> str | None:
        """The one user whose sessions are looked for."""
        user = self.filter.get("user_id")
        return user if isinstance(user, str) else None

    def accepts(self, info: SessionInfo) -> bool:
        """Whether the list shows of the session what is looked for: headers are searched by their kind."""
        return self.kind != "device" or self.text.casefold() in device_name(info.user_agent).casefold()


def understand(store: MongoSessionStore, text: str, find_user: FindUser | None = None) -> Search:
    """The meaning of *text*: what it says (``user:ada``), else the first of :data:`KINDS` that something is found for.

    What is none of the others is a device.
    """
    if not text:
        return Search()

    reader = _Reader(store, find_user)
    word, _, rest = text.partition(":")
    if word in KINDS and rest.strip():
        return t.cast("Search", getattr(reader, word)(rest.strip(), said=True))

    found = (getattr(reader, kind)(text, said=False) for kind in KINDS)
    return t.cast("Search", next(search for search in found if search is not None))


class _Reader:
    """Reads a text as each kind; ``None`` where nobody said so and nothing is found."""

    def __init__(self, store: MongoSessionStore, find_user: FindUser | None) -> None:
        self._store = store
        self._find_user = find_user

    def address(self, text: str, *, said: bool) -> Search | None:
        network = network_of(text)
        if network is None:
            beginning = user_text(text.lower()) or ""
            fits = said or is_beginning(beginning)
            return Search("address", text, "ip", {"ip": begins_with(beginning)}) if fits else None
        if network.num_addresses == 1:
            return Search("address", text, "ip", {"ip": {"$in": spellings(network)}})

        prefix, exact = prefix_of(network)
        if exact:
            return Search("address", text, "ip", {"ip": begins_with(prefix)})

        addresses, cut = self._distinct("ip", begins_with(prefix))
        inside = [address for address in addresses if lies_in(address, network)]
        return Search("address", text, "ip", {"ip": {"$in": inside}}, cut)

    def user(self, text: str, *, said: bool) -> Search | None:
        known = self._find_user(text) if self._find_user else ()
        users = [user for _, user in zip(range(_MOST_USERS), map(user_text, known), strict=False) if user]
        name = user_text(text)
        if name not in users and (said or self._exists({"user_id": name})):
            users.append(name or "")
        if not users:
            return None

        return Search("user", text, "user_id", {"user_id": users[0] if len(users) == 1 else {"$in": users}})

    def session(self, text: str, *, said: bool) -> Search | None:
        beginning = user_text(text.lstrip("'").removesuffix("…")) or ""  # a spreadsheet's apostrophe, the list's dots
        chosen: Filter = {"_id": begins_with(beginning)}
        if not said and (len(beginning) < _SHORTEST_ID or not self._exists(chosen)):
            return None

        return Search("session", text, "_id", chosen)

    def device(self, text: str, *, said: bool) -> Search:  # noqa: ARG002 - the last resort
        headers, cut = self._distinct("user_agent", {"$gt": ""})
        named, complete = headers_named(headers, text)
        return Search("device", text, "user_agent", {"user_agent": {"$in": named}}, cut or not complete)

    def _exists(self, chosen: Filter) -> bool:
        with self._store.operation():
            return self._store.collection.find_one(chosen, {"_id": True}) is not None

    def _distinct(self, field: str, bounds: Filter) -> tuple[list[str], bool]:
        """The different texts in *field*, and whether there are more: the server skips through the index."""
        most = DISTINCT[field]
        pipeline: list[dict[str, t.Any]] = [
            {"$match": {field: bounds}},
            {"$sort": {field: 1}},
            {"$group": {"_id": f"${field}"}},
            {"$limit": most + 1},
        ]
        with self._store.operation():
            found = [row["_id"] for row in self._store.collection.aggregate(pipeline, batchSize=most + 1)]
        return [value for value in found[:most] if isinstance(value, str)], len(found) > most
