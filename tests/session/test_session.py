"""The object behind ``flask.session``: a plain mapping, whatever was loaded, and the manager's vocabulary."""

from __future__ import annotations

import copy
import datetime as dt
import enum
from collections.abc import MutableMapping

import pytest

from flask_mongo_session import ServerSideSession, SessionStatus, SessionTooLarge, new_session_id
from flask_mongo_session.mongo import clock
from flask_mongo_session.session.context import SessionContext
from flask_mongo_session.session.lifetime import Policy
from flask_mongo_session.session.session import draft_of
from flask_mongo_session.session.state import CookieContent, new_token, token_hash
from flask_mongo_session.session.unit_of_work import Outcome, UnitOfWork

HOUR = dt.timedelta(hours=1)
START = {"a": 1, "list": [1, 2], "nested": {"x": {"y": [0]}}, "set": {1}, "none": None, "a.b": "dot"}
EMPTY = object()


class Source:
    """Where a request's session comes from, without a request."""

    over = static = False

    def __init__(self, repository, token):
        self.repository, self.token = repository, token
        self.reading = clock.boottime()

    def cookie(self):
        return CookieContent(*self.token.split(".")) if self.token else None

    def find(self, sid, token):
        return self.repository.find(sid, token, self.reading)

    def loaded(self, found):
        pass

    @property
    def began(self):
        return self.repository.connection.clock.at(self.reading)


class Desk:
    """Opens and saves sessions as the interface does, without a browser."""

    def __init__(self, store):
        self.store = store
        self.policy = Policy(HOUR)
        connection = store.connection
        self.context = SessionContext(store.repository.mapper, connection.clock.estimate, ("user_id",), ("csrf_token",))

    def new(self, **data):
        session = self.open(None)
        session.update(data)
        return session

    def stored(self, data=START):
        session = self.new(**copy.deepcopy(data))
        self.save(session)
        return session.token

    def open(self, token):
        return ServerSideSession(self.context, Source(self.store.repository, token))

    def save(self, session):
        return UnitOfWork(draft_of(session), self.store.repository, self.policy).save()

    def data(self, session_or_token):
        token = session_or_token if isinstance(session_or_token, str) else session_or_token.token
        if token is None:
            return {}
        sid, _, secret = token.partition(".")
        document = self.store.collection.find_one({"_id": sid, "token": token_hash(secret)})
        return self.store.repository.mapper.stored(document).data if document else {}


def unknown():
    """A token of a session that never was."""
    return f"{new_session_id()}.{new_token()}"


@pytest.fixture
def desk(store):
    """Sessions on the store of :func:`app`."""
    return Desk(store)


def in_state(desk, state):
    """A session with the contents of ``START``: just begun, read already, or not read yet."""
    if state == "new":
        return desk.new(**copy.deepcopy(START))

    session = desk.open(desk.stored())
    if state == "loaded":
        assert len(session) == len(START)
    return session


STATES = ("new", "loaded", "blind")


@pytest.fixture(params=STATES)
def session(request, desk):
    """A session in each of the states."""
    return in_state(desk, request.param)


def ior(mapping):
    mapping |= {"a": 5, "new": 1}


def delete(key):
    return lambda mapping: mapping.__delitem__(key)


OPERATIONS = {
    "get item": lambda m: m["a"],
    "get absent": lambda m: m["absent"],
    "get": lambda m: (m.get("a"), m.get("absent"), m.get("absent", 3), m.get("none", 4)),
    "set": lambda m: m.__setitem__("a", 2),
    "set the same": lambda m: m.__setitem__("a", 1),
    "set new": lambda m: m.__setitem__("new", [1]),
    "set, get": lambda m: (m.__setitem__("a", [3]), m["a"], "a" in m, len(m)),
    "delete": delete("a"),
    "delete absent": delete("absent"),
    "delete, set": lambda m: (m.__delitem__("a"), m.__setitem__("a", 9)),
    "set, delete": lambda m: (m.__setitem__("new", 9), m.__delitem__("new")),
    "delete twice": lambda m: (m.__delitem__("a"), m.__delitem__("a")),
    "contains": lambda m: ("a" in m, "absent" in m, 1 in m, None in m),
    "contains unhashable": lambda m: [] in m,
    "get unhashable": lambda m: m[[]],
    "get number": lambda m: m[1],
    "length": len,
    "truth": bool,
    "iterate": sorted,
    "iterate and change": lambda m: [m.pop(key) for key in sorted(m) if key != "a"],
    "keys, values, items": lambda m: (sorted(m.keys()), sorted(map(repr, m.values())), sorted(k for k, _ in m.items())),
    "equal": lambda m: (m == START, m == {}, m != {}),
    "pop": lambda m: m.pop("list"),
    "pop absent": lambda m: m.pop("absent"),
    "pop default": lambda m: (m.pop("absent", 1), m.pop("absent", None)),
    "setdefault": lambda m: (m.setdefault("a", 5), m.setdefault("new", 6), m.setdefault("other")),
    "setdefault in place": lambda m: m.setdefault("fresh", []).append(1),
    "update": lambda m: m.update({"a": 7}, b=8),
    "update from pairs": lambda m: m.update([("a", 7), ("c", 8)]),
    "update from nothing": lambda m: m.update(),
    "ior": ior,
    "or": lambda m: m | {"a": 5},
    "ror": lambda m: {"a": 5, "z": 1} | m,
    "copy": lambda m: (m.copy(), type(m.copy())),
    "copy is apart": lambda m: m.copy().update(a=5),
    "append in place": lambda m: m["list"].append(3),
    "change deeply": lambda m: m["nested"]["x"]["y"].append({"z": 1}),
    "change a set": lambda m: m["set"].add(2),
    "sort in place": lambda m: m["list"].sort(reverse=True),
    "change and change back": lambda m: (m["list"].append(3), m["list"].pop()),
    "change, then replace": lambda m: (m["list"].append(3), m.__setitem__("list", [9])),
    "replace, then change": lambda m: (m.__setitem__("list", [9]), m["list"].append(3)),
    "change, then delete": lambda m: (m["list"].append(3), m.__delitem__("list")),
    "change through values": lambda m: [v.append(1) for v in m.values() if isinstance(v, list)] and None,
    "change through get": lambda m: m.get("list").append(7),
    "shared value": lambda m: (m.__setitem__("list2", m["list"]), m["list"].append(4)),
    "odd keys": lambda m: m.update({"": 1, "$x": 2, "x.y": 3, "a\0b": 4, "_id": 5, "token": 6, "permanent": 7}),
    "delete all": lambda m: [m.__delitem__(key) for key in list(m)],
    "popitem all": lambda m: len([m.popitem() for _ in range(len(m))]),
    "popitem none": lambda m: ([m.popitem() for _ in range(len(m))], m.popitem())[1],
}


def outcome(operation, mapping):
    try:
        return operation(mapping)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("name", OPERATIONS)
def test_mapping(desk, name):
    """Every operation answers, raises and leaves behind what it does with a dictionary, at once and once stored."""
    operation = OPERATIONS[name]
    for state in STATES:
        session, plain = in_state(desk, state), copy.deepcopy(START)

        assert outcome(operation, session) == outcome(operation, plain), state
        assert session == plain, state

        desk.save(session)
        assert desk.data(session) == plain, state
        assert session == plain, state


def test_clear_and_write(desk, session):
    """clear() ends what there was; what is written afterwards goes on alone, in the record, under a new token."""
    before, sid = session.token, session.sid
    session.clear()
    assert (dict(session), session.status, session.new, session.token) == ({}, SessionStatus.DESTROYED, True, None)
    assert session.sid == sid

    session["new"] = 1
    assert session.status is SessionStatus.MODIFIED
    assert desk.save(session) is Outcome.CURRENT
    assert desk.data(session) == {"new": 1}
    assert session.sid == sid
    assert session.token != before
    assert before is None or desk.data(before) == {}


@pytest.mark.parametrize("end", ["clear", "destroy"])
def test_ended(desk, session, end):
    """Ended and not written to: nothing is left, in the database or here, and the old token is dead."""
    before = session.token
    getattr(session, end)()

    assert desk.save(session) is (Outcome.ENDED if before else Outcome.UNKNOWN)
    assert (session.token, dict(session)) == (None, {})
    assert before is None or desk.data(before) == {}
    assert desk.store.all() == {}


PUBLIC = {
    *("token", "sid", "new", "status", "created_at", "expires_at", "deadline", "permanent"),
    *("regenerate", "destroy", "merge", "increment", "append", "confirm", "fresh"),
    *("accessed", "modified"),  # Flask's
    *(name for name in dir(MutableMapping) if not name.startswith("_")),
    "copy",
}


def test_public_names(session):
    """A session shows the manager's vocabulary, what Flask asks for, and a mapping's methods: nothing else."""
    assert {name for name in dir(session) if not name.startswith("_")} == PUBLIC


def test_it_is_a_mapping(session):
    """It counts as a mutable mapping, and its attributes are no items."""
    assert isinstance(session, MutableMapping)
    assert "token" not in session
    session["token"] = "mine"
    assert session["token"] == "mine"
    assert session.token != "mine"


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_keys_are_text(session, key):
    """A key that is no text is refused where it is written, and absent where it is read."""
    with pytest.raises(TypeError, match="Session keys are text"):
        session[key] = 1

    assert key not in session


class Key(str, enum.Enum):
    PLAIN = "plain"
    DOTTED = "a.b"
    USER = "user_id"


@pytest.mark.parametrize("key", Key)
def test_members_of_an_enumeration_are_keys(desk, session, key):
    """A key of a subclass of text is the text that it equals, not the one that it is shown as."""
    session[key] = "7"
    desk.save(session)
    assert {type(name) for name in desk.data(session)} == {str}
    assert desk.data(session)[key.value] == "7"

    session = desk.open(session.token)
    assert (key in session, session.pop(key)) == (True, "7")
    session.append(key, 1)
    session.regenerate()
    desk.save(session)
    assert desk.data(session)[key.value] == [1]


def test_typed_access(desk):
    """Get and pop convert as Werkzeug's do: the default where it does not convert."""
    session = desk.open(desk.stored({"n": "5", "text": "x", "none": None}))

    assert session.get("n", type=int) == 5
    assert session.get("text", type=int) is None
    assert session.get("text", 7, type=int) == 7
    assert session.get("none", 7, type=int) == 7
    assert session.get("absent", "no", type=int) == "no"
    assert session.pop("n", type=int) == 5
    assert session.pop("absent", "no", type=int) == "no"
    assert session.pop("none", 7, type=int) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        session.pop("text", type=int)
    with pytest.raises(KeyError):
        session.pop("absent", type=int)


def test_get_lets_a_converters_own_error_through(desk):
    """Only what conversion means by failing gives the default: another error in *type* is the caller's."""
    session = desk.new(a="b")

    with pytest.raises(KeyError, match="b"):
        session.get("a", "default", type=lambda value: {}[value])


def test_increment(desk):
    """Adds in the database without reading, from 0 where there is nothing, whatever state the session is in."""
    token = desk.stored({"n": 1})
    for prepare in (lambda _: None, len, lambda s: s.get("n")):
        session = desk.open(token)
        prepare(session)
        session.increment("n")
        session.increment("n", 2)
        session.increment("fresh", 0.5)
        desk.save(session)

    assert desk.data(token) == {"n": 10, "fresh": 1.5}
    session = desk.new()
    session.increment("n", 5)
    assert session["n"] == 5
    desk.save(session)
    assert desk.data(session) == {"n": 5}


def test_increment_then_read(desk):
    """After a blind increment a read sees it; after a write it adds to what was written."""
    session = desk.open(desk.stored({"n": 1, "m": 1}))
    session.increment("n")
    assert session["n"] == 2
    session["m"] = 10
    session.increment("m")
    del session["n"]
    session.increment("n", 3)
    desk.save(session)

    assert desk.data(session) == {"n": 3, "m": 11}


@pytest.mark.parametrize("limit", [None, 1, 2, 10])
def test_append(desk, limit):
    """Appends in the database without reading, keeping the last *limit*; a later read sees the result."""
    token = desk.stored({"l": [1, 2]})
    for prepare in (lambda _: None, len, lambda s: s.get("l")):
        session = desk.open(token)
        before = desk.data(token)["l"]
        prepare(session)
        session.append("l", {"x": (1,)}, limit)
        session.append("l", 4, limit)
        wanted = [*before, {"x": (1,)}, 4][-(limit or 99) :]
        desk.save(session)
        assert desk.data(token)["l"] == wanted
        assert session["l"] == wanted


def test_appends_keep_their_bounds(desk):
    """An append without a limit, or with a larger one, lifts none of the bounds before it: blind, read, known."""
    limits = (2, None, 5, None, 4, 9)
    for prepare in (lambda _: None, len, lambda s: s.setdefault("own", [1, 2, 3])):
        session, wanted = desk.open(desk.stored({"l": [1, 2, 3]})), [1, 2, 3]
        prepare(session)
        for number, limit in enumerate(limits):
            for key in ("l", "own") if "own" in session else ("l",):
                session.append(key, number, limit)
            wanted = [*wanted, number][-(limit or 99) :]
        desk.save(session)

        assert desk.data(session)["l"] == session["l"] == wanted
        assert desk.data(session).get("own", wanted) == wanted


def test_append_then_change(desk):
    """Appending and then changing the list in place loses neither."""
    session = desk.open(desk.stored({"l": [1]}))
    session.append("l", 2)
    session["l"][0] = 9
    session.append("l", 3)
    assert session["l"] == [9, 2, 3]
    desk.save(session)

    assert desk.data(session)["l"] == [9, 2, 3]


ORDERED = {
    "assigned": lambda session: session.update(z=1, b=1, c=1),
    "counted": lambda session: (session.increment("z"), session.append("b", 1), session.update(c=1)),
    "logged in": lambda session: session.update(z=1, user_id="7", b=1),
    "regenerated": lambda session: (session.regenerate(), session.update(z=1, b=1)),
    "after a clear": lambda session: (session.clear(), session.update(z=1, b=1)),
    "written whole": lambda session: (session.update(z=1, b=1), setattr(session, "modified", True)),
}


@pytest.mark.parametrize("write", ORDERED.values(), ids=ORDERED)
def test_key_order_survives_a_reload(desk, session, write):
    """New keys follow those that were there, in the order in which they came, in every kind of save."""
    write(session)
    desk.save(session)
    shown = list(session)

    assert list(desk.open(session.token)) == shown
    assert [key for key in shown if key in ("z", "user_id", "b")] in (["z", "b"], ["z", "user_id", "b"])


@pytest.mark.parametrize("by", [True, "1", None, 1j, dt.timedelta(1)])
def test_increment_by_no_number(desk, by):
    """Only numbers are added."""
    with pytest.raises(TypeError, match="adds a number"):
        desk.new().increment("n", by)


def test_increment_what_is_no_number(desk):
    """Known to be no number: refused at once. Not known: refused by the server, the record stays."""
    token = desk.stored({"t": "x", "l": 1})
    session = desk.open(token)
    assert session["t"]
    with pytest.raises(TypeError, match="'t'"):
        session.increment("t")
    with pytest.raises(TypeError, match="'l'"):
        session.append("l", 1)

    for change in (lambda s: s.increment("t"), lambda s: s.append("l", 1)):
        blind = desk.open(token)
        change(blind)
        with pytest.raises(TypeError, match="cannot be incremented or appended"):
            desk.save(blind)
    assert desk.data(token) == {"t": "x", "l": 1}


def test_increment_beyond_64_bits(desk):
    """A number that the database cannot count with is refused; nothing wraps around."""
    session = desk.open(desk.stored({"n": 2**63 - 1}))
    assert session["n"]
    with pytest.raises(TypeError, match="64 bits"):
        session.increment("n")
    with pytest.raises(TypeError, match="64 bits"):
        desk.open(session.token).increment("n", 2**63)
    assert session["n"] == 2**63 - 1

    for read in (True, False):
        session = desk.open(desk.stored({"n": -(2**62)}))
        assert not read or session["n"]
        session.increment("n", 2**62)
        with pytest.raises(TypeError, match="'n' would grow beyond 64 bits"):
            session.increment("n", 2**62)
        desk.save(session)
        assert desk.data(session) == {"n": 0}


@pytest.mark.parametrize("limit", [0, -1])
def test_append_keeps_something(desk, limit):
    """A limit that would keep nothing is a mistake."""
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        desk.new().append("l", 1, limit)


def test_append_what_cannot_be_stored(desk):
    """An item is checked like an assigned value."""
    with pytest.raises(TypeError, match="'l'"):
        desk.new().append("l", object())


@pytest.mark.parametrize("key", ["a", "b"])
def test_permanent_is_no_item(desk, key):
    """``permanent`` is kept with the record and in the cookie, not among the keys; saying it again changes nothing."""
    session = desk.new(**{key: 1})
    session.permanent = True
    desk.save(session)
    assert draft_of(session).state.cookie.permanent

    again = desk.open(session.token)
    assert dict(again) == {key: 1}
    assert again.permanent is True
    again.permanent = True
    assert (again.modified, again.status) == (False, SessionStatus.UNMODIFIED)

    again.permanent = False
    assert again.modified
    desk.save(again)
    assert desk.store.find(again.sid).permanent is False


def test_status_and_modified(desk):
    """Reading is no change, assigning what is there is none, changing back is none."""
    session = desk.open(desk.stored({"a": 1, "l": [1]}))
    assert (session.status, session.modified) == (SessionStatus.UNMODIFIED, False)
    assert session["l"] == [1]
    session["a"] = 1
    session.update(l=[1])
    assert not session.modified
    session["a"] = True
    assert session.status is SessionStatus.MODIFIED
    session["a"] = 1
    assert not session.modified
    session["l"].append(2)
    assert session.modified
    session["l"].pop()
    assert not session.modified


def test_modified_can_be_set(desk, sessions):
    """Set to true every key is written, one that another request removed too; set to false nothing is."""
    token = desk.stored({"a": 1, "b": 2})
    session = desk.open(token)
    assert session["a"] == 1
    sessions.update_one({}, {"$unset": {"data.b": ""}})
    session.modified = True
    desk.save(session)
    assert desk.data(token) == {"a": 1, "b": 2}

    session = desk.open(token)
    session["a"] = 5
    session.modified = False
    desk.save(session)
    assert desk.data(token) == {"a": 1, "b": 2}


def test_before_and_after_the_first_save(desk):
    """A new session has no token and no dates, but the id that it will get; saving gives it all of them."""
    session = desk.new(a=1)
    assert session.new
    assert [session.token, session.created_at, session.expires_at, session.deadline] == [None] * 4
    sid = session.sid

    desk.save(session)
    assert not session.new
    assert session.sid == sid == session.token.partition(".")[0]
    assert session.expires_at - session.created_at == HOUR
    assert session.expires_at.utcoffset() == dt.timedelta(0)


@pytest.mark.parametrize("read", [True, False])
def test_regenerate(desk, read):
    """A new token, the data kept, the lifetime restarted; the old token is dead at once."""
    token = desk.stored()
    session = desk.open(token)
    if read:
        session["list"].append(3)
    session.regenerate()
    session["more"] = 1
    assert session.status is SessionStatus.MODIFIED
    assert desk.save(session) is Outcome.CURRENT

    wanted = {**START, "more": 1, **({"list": [1, 2, 3]} if read else {})}
    assert session.token != token
    assert session.sid == token.partition(".")[0]
    assert desk.data(session) == wanted
    assert desk.data(token) == {}


def test_regenerate_what_is_not_there(desk):
    """A session that never was, or is gone, has nothing to rotate."""
    new = desk.new()
    new.regenerate()
    assert desk.save(new) is Outcome.UNKNOWN

    gone = desk.open(unknown())
    gone.regenerate()
    assert desk.save(gone) is Outcome.UNKNOWN
    assert desk.store.all() == {}


def test_merge(desk):
    """The other's values win, the other is gone."""
    mine, other = desk.stored({"a": 1, "b": 1}), desk.stored({"b": 2, "c": (3,)})
    session = desk.open(mine)
    session.merge(other)
    assert dict(session) == {"a": 1, "b": 2, "c": (3,)}
    desk.save(session)

    assert desk.store.all() == {session.sid: {"a": 1, "b": 2, "c": (3,)}}
    assert desk.data(other) == {}


@pytest.mark.parametrize(("mine", "other", "wanted"), [(1, 2, 2), (2, 1, 2), (2, 2, 2)])
def test_merge_keeps_the_later_deadline(desk, mine, other, wanted):
    """Of two deadlines the later one stays."""
    start = desk.store.now()
    tokens = []
    for hours in (mine, other):
        session = desk.new(a=hours)
        session.deadline = start + hours * HOUR
        desk.save(session)
        tokens.append(session.token)

    session = desk.open(tokens[0])
    session.merge(tokens[1])
    desk.save(session)
    assert desk.store.find(session.sid).deadline == start + wanted * HOUR


def test_merge_with_nobody(desk):
    """The same session, an unknown token, what is no token: nothing happens."""
    token = desk.stored({"a": 1})
    session = desk.open(token)
    for other in (token, unknown(), "", "\ud800", None, {"$ne": None}):
        session.merge(other)
    assert not session.modified
    desk.save(session)

    assert desk.data(token) == {"a": 1}


def test_gone(desk):
    """Read and changed after its end: dropped. Written without reading: a new session with just that."""
    read = desk.open(unknown())
    assert read.get("a") is None
    blind = desk.open(unknown())
    blind["a"] = 1
    blind.increment("n")
    blind.append("l", 1)
    assert desk.save(read) is Outcome.UNKNOWN
    assert desk.save(blind) is Outcome.CURRENT
    assert desk.store.all() == {blind.sid: {"a": 1, "n": 1, "l": [1]}}


@pytest.mark.parametrize(
    "prepare", [lambda s: s["a"], lambda s: s["list"].append(3), lambda s: s.update(a=2) or s["a"]]
)
def test_ended_by_another_while_in_use(desk, prepare):
    """What was loaded and changed when the session ended elsewhere is dropped silently: it never comes back."""
    token = desk.stored()
    session = desk.open(token)
    assert session["a"] == 1
    prepare(session)
    desk.store.delete(session.sid)

    assert desk.save(session) is Outcome.UNKNOWN
    assert desk.store.all() == {}


def test_deadline(desk):
    """A deadline is set by an aware datetime, kept in milliseconds, and bounds the expiry."""
    session = desk.new(a=1)
    with pytest.raises(ValueError, match="timezone"):
        session.deadline = dt.datetime(2030, 1, 1)  # noqa: DTZ001
    at = desk.store.now() + HOUR / 2
    session.deadline = at
    assert session.deadline == at
    desk.save(session)
    assert session.expires_at == session.deadline == at

    again = desk.open(session.token)
    again.deadline = at
    assert not again.modified
    again.deadline = None
    assert again.deadline is None
    desk.save(again)
    found = desk.store.find(again.sid)
    assert found.deadline is None
    assert found.expires_at > at


def test_repr_shows_counts_only(desk, session):
    """No contents, no token, not even the names of keys, and no command for it."""
    session.setdefault("card", "4111-secret")
    desk.save(session)
    texts = [repr(session), repr(desk.open(session.token)), repr(desk.store.find(session.sid))]

    assert session.token
    for text in texts:
        assert "4111" not in text
        assert "card" not in text
        assert session.token.partition(".")[2] not in text
    assert "unread" in texts[1]


def test_values_are_the_objects_assigned(desk):
    """Within a request a session gives back the very object, as a dictionary does."""
    session = desk.new()
    value = [1]
    session["l"] = value
    assert session["l"] is value
    assert session.get("l") is value


def test_no_command_before_it_is_read(desk, commands):
    """Assignments, its repr and its ids ask nothing; the first read asks once."""
    session = desk.open(desk.stored())
    commands.clear()
    session["a"] = 2
    session.append("list", 1)
    session.increment("n")
    assert (session["a"], "a" in session, len(session.sid), repr(session) == "") == (2, True, 22, False)
    assert commands.names == []
    assert len(session) == len(START) + 1
    assert session["nested"]
    assert commands.names == ["find"]


READS = {"unread": lambda _: None, "read": len}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_near_the_limit(desk, read):
    """What fits exactly is stored; what does not raises and leaves the stored session as it was."""
    desk.store.repository.max_size = 1_500
    token = desk.stored({"big": "x" * 900, "list": [1], "n": 1})

    session = desk.open(token)
    read(session)
    session.update(big="y" * 1_000, n=2)
    session.append("list", "z")
    desk.save(session)
    assert desk.data(token) == {"big": "y" * 1_000, "list": [1, "z"], "n": 2}

    for grow in (lambda s: s.update(big="y" * 1_450), lambda s: s.append("list", "z" * 500)):
        session = desk.open(token)
        read(session)
        grow(session)
        with pytest.raises(SessionTooLarge):
            desk.save(session)
        assert desk.data(token) == {"big": "y" * 1_000, "list": [1, "z"], "n": 2}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_appends_that_nobody_counts(desk, read):
    """However often a list is appended to, the session keeps within its limit."""
    desk.store.repository.max_size = 1_500
    token = desk.stored({"n": 1})

    def append_for_ever():
        while True:
            session = desk.open(token)
            read(session)
            session.append("list", "z" * 20)
            desk.save(session)

    with pytest.raises(SessionTooLarge):
        append_for_ever()
    assert 30 < len(desk.data(token)["list"]) < 60


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_beyond_a_limit_that_was_lowered(desk, read):
    """A session that is too large today can be read, changed without growing, rotated, and made smaller."""
    token = desk.stored({"big": "x" * 3_000, "n": 1})
    desk.store.repository.max_size = 1_500
    session = desk.open(token)
    read(session)
    session["n"] = 2
    desk.save(session)
    session = desk.open(token)
    session.regenerate()
    session["n"] = 3
    desk.save(session)
    assert desk.data(session) == {"big": "x" * 3_000, "n": 3}

    session = desk.open(session.token)
    del session["big"]
    desk.save(session)
    assert desk.data(session) == {"n": 3}


def test_writes_that_are_merged_keep_within_the_limit(desk):
    """A request that another tab has overtaken by a rotation raises, too, where there is no room for its writes."""
    token = desk.stored({"n": 1})
    late, other = desk.open(token), desk.open(token)
    late["late"] = "z" * 900
    other["big"] = "x" * 900
    other.regenerate()
    desk.save(other)
    desk.store.repository.max_size = 1_500

    with pytest.raises(SessionTooLarge):
        desk.save(late)
    assert set(desk.data(other)) == {"n", "big"}
