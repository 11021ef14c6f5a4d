"""Strangers send cookies of any bytes, documents rot: a fresh session or an error at assignment, never a 500."""

from __future__ import annotations

import datetime as dt
import random
import struct

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from flask import session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_mongo_session import SessionStoreUnavailable, SessionTooLarge
from flask_mongo_session.document.changes import WIDE
from flask_mongo_session.session.state import CookieContent, new_session_id, new_token

COOKIES = 5_000
DOCUMENTS = 500
TEXT = "".join(map(chr, range(33, 127)))
HEADER_SAFE = [chr(code) for code in range(1, 256) if chr(code) not in "\r\n"]


@pytest.fixture
def app(app):
    """As in production: an error would be a 500."""
    app.testing = False
    return app


def send(app, cookie, path="/read/kept"):
    """The answer to a request with these very characters as cookie."""
    return app.test_client(use_cookies=False).get(path, headers={"Cookie": f"session={cookie}"})


def mutated(value, chance):
    """The value with some of it replaced, removed, doubled or cut off."""
    characters = list(value)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(characters) + 1)
        match chance.randrange(5):
            case 0:
                characters[at : at + 1] = chance.choice(HEADER_SAFE)
            case 1:
                del characters[at : at + chance.randint(1, 9)]
            case 2:
                characters[at:at] = chance.choices(HEADER_SAFE, k=chance.randint(1, 9))
            case 3:
                characters = characters[:at]
            case _:
                characters[at:at] = chance.choice([".", "..", "$", "%00", "\x00", "é", '"', ";", "p", "-"])
    return "".join(characters)


def garbage(valid, chance):
    """Cookies that nobody signed."""
    for number in range(COOKIES):
        if number % 2:
            yield mutated(valid, chance)
        else:
            yield "".join(chance.choices(HEADER_SAFE, k=chance.choice([0, 1, 9, 60, 115, 511, 513, 4000])))


def is_ours(signer, cookie, valid):
    """Whether it is the valid one after all: its signature may be spelt in more than one way (base64)."""
    content = signer.read(cookie.partition(";")[0].strip().strip('"'))
    assert content in (None, signer.read(valid))
    return content is not None


def test_five_thousand_cookies_that_we_did_not_sign(app, commands, sessions, caplog):
    """None is an error, none makes a document, none costs a query."""
    chance = random.Random(5)
    browser = app.test_client()
    browser.get("/write/kept/1")
    valid = browser.get_cookie("session").value
    signer = app.session_interface.signer(app)
    forged = [cookie for cookie in garbage(valid, chance) if not is_ours(signer, cookie, valid)]
    commands.clear()

    answers = [
        send(app, cookie, ("/read/kept", "/untouched", "/logout")[number % 3]) for number, cookie in enumerate(forged)
    ]

    assert len(answers) > COOKIES * 0.95
    assert {answer.status_code for answer in answers} == {200}
    assert commands.names == []
    assert sessions.count_documents({}) == 1
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sid=st.text(TEXT, max_size=60),
    token=st.text(TEXT, max_size=60),
    pending=st.none() | st.text(TEXT, max_size=60),
    deadline=st.none() | st.integers(-(2**70), 2**70),
    permanent=st.booleans(),
)
def test_any_cookie_that_was_signed(app, *, sid, token, pending, deadline, permanent):
    """Who knows the secret key may sign nonsense: it is an unknown session, and a visitor may still log in."""
    signer = app.session_interface.signer(app)
    cookie = signer.sign(CookieContent(sid, token, permanent, deadline, pending))

    assert send(app, cookie, "/count").status_code == 200
    assert send(app, cookie, "/write/a/1").status_code == 200
    assert send(app, cookie, "/untouched").status_code == 200


# -- documents --------------------------------------------------------------------------------------------------------


def nested(depth, inner=1):
    value = inner
    for _ in range(depth):
        value = {"a": value}
    return value


STRANGE = [
    None,
    True,
    0,
    -1,
    2**62,
    1.5,
    float("nan"),
    "",
    "text",
    b"\x00\xff",
    [],
    [1],
    {},
    {"~t": "tuple"},
    {"~t": "tuple", "v": 1},
    {"~t": "set", "v": [[]]},
    {"~t": "dict", "v": [[1]]},
    {"~t": "dict", "v": [[[], 1]]},
    {"~t": "datetime", "v": "yesterday"},
    {"~t": "timedelta", "v": [10**18]},
    {"~t": "decimal", "v": "one"},
    {"~t": "int", "v": "0x" + "g"},
    {"~t": "str", "v": b"\xff"},
    {"~t": "str", "v": 1},
    {"~t": ["tuple"], "v": []},
    {"~t": "__import__('os').system", "v": []},
    {"$where": "while(true){}"},
    {"$gt": ""},
    {"a.b": 1},
    {"": 1},
    {"%": 1, "%0000": 2, "%zz": 3},
    nested(60),
    nested(120),
    nested(120, {"~t": "tuple", "v": []}),
    [[[[[[]]]]]],
    bson.ObjectId(),
    bson.Code("function() { return 1 }"),
    bson.Code("x", {"y": 1}),
    bson.DBRef("users", 1),
    bson.Regex(".*"),
    bson.MinKey(),
    bson.MaxKey(),
    bson.Timestamp(1, 1),
    bson.Decimal128("NaN"),
    bson.Binary(b"x", 3),
    bson.Binary(b"x", 200),
    bson.datetime_ms.DatetimeMS(2**62),
    bson.datetime_ms.DatetimeMS(-(2**62)),
    dt.datetime(9999, 12, 31, tzinfo=dt.timezone.utc),
    dt.datetime(1, 1, 1, tzinfo=dt.timezone.utc),
]
FIELDS = ["data", "expires_at", "created_at", "touched_at", "deadline", "user_id", "permanent", "ended_at", "token"]
FIELDS += [
    "previous",
    "previous.at",
    "previous.token",
    "previous.wrote",
    "previous.keeps_writes",
    "previous.login",
    "last_user_id",
    "ip",
    "authenticated_at",
    "_cls",
    "data.kept",
    "data.user_id",
    "data.other",
]


def place(document, field, value):
    """Put the value there, as a foreign writer would."""
    *parents, last = field.split(".")
    for parent in parents:
        if not isinstance(document.get(parent), dict):
            document[parent] = {}
        document = document[parent]
    document[last] = value


def damaged(document, chance):
    """The document with one to three fields removed, of a strange type, or strange inside."""
    document = {**document, "data": {**document["data"]}}
    for _ in range(chance.randint(1, 3)):
        field = chance.choice(FIELDS)
        if chance.random() < 0.2:
            document.pop(field.partition(".")[0], None)
        else:
            place(document, field, chance.choice(STRANGE))
    return document


def is_expiry(value):
    return isinstance(value, dt.datetime)


@pytest.fixture
def rot(app, sessions):
    """Makes a browser whose stored session was replaced by what *spoil* makes of it."""

    def make(spoil):
        browser = app.test_client()
        browser.get("/write/kept/1")
        sid = browser.get_cookie("session").value.partition(".")[0]
        document = spoil(sessions.find_one({"_id": sid}))
        sessions.delete_one({"_id": sid})
        sessions.insert_one(document)
        return browser

    return make


@pytest.mark.soak
@pytest.mark.parametrize("count", [DOCUMENTS // 4, pytest.param(DOCUMENTS, marks=pytest.mark.soak)])
def test_five_hundred_damaged_documents(app, rot, sessions, count):
    """None is an error, none is accepted with an expiry that is no date, and none keeps its owner from going on."""
    chance = random.Random(count)
    for _ in range(count):
        spoilt = {}

        def spoil(document, spoilt=spoilt):
            spoilt.update(damaged(document, chance))
            return spoilt

        browser = rot(spoil)
        first = chance.choice(["/read/kept", "/write/kept/2", "/login/7", "/logout", "/untouched"])
        before = browser.get(first)
        if not is_expiry(spoilt.get("expires_at")):
            assert browser.get("/read/kept").text != "1", spoilt
        answers = [
            browser.get(path).status_code for path in ["/read/kept", "/login/8", "/write/kept/3", "/read/user_id"]
        ]

        assert before.status_code == 200, (first, spoilt)
        assert answers == [200] * 4, (first, spoilt)
        assert browser.get("/read/kept").text == "3", (first, spoilt)
        assert browser.get("/read/user_id").text == "8", (first, spoilt)
        sessions.delete_many({})


@pytest.mark.parametrize("expires_at", [None, "2999-01-01", 2**62, True, {}, [], {"$gt": 0}, bson.MaxKey()])
def test_a_damaged_expiry_is_no_expiry(rot, store, expires_at):
    """A session without an end that the database can compare does not exist, in any way of asking."""
    browser = rot(lambda document: {**document, "expires_at": expires_at})
    sid = browser.get_cookie("session").value.partition(".")[0]

    assert store.find(sid) is None
    assert store.all() == {}
    assert browser.get("/write/kept/2").status_code == 200
    assert browser.get_cookie("session").value.partition(".")[0] != sid
    assert browser.get("/read/kept").text == "2"


WRITES = {
    "one key": lambda: session.update(a=1),
    "keys out of order": lambda: session.update(b=1, a=2),
    "numbers": lambda: (session.increment("b"), session.increment("a")),
    "very many": lambda: session.update({f"key{number}": number for number in range(WIDE + 1)}),
}


@pytest.mark.parametrize("data", [5, "text", [1], True, bson.MinKey()])
@pytest.mark.parametrize("way", WRITES)
def test_writes_where_the_data_are_no_document(app, rot, sessions, data, way):
    """However the update is made: the session is damaged, and what was written begins another one."""
    app.add_url_rule("/blind", view_func=lambda: str(WRITES[way]()))
    browser = rot(lambda document: {**document, "data": data})
    before = browser.get_cookie("session").value.partition(".")[0]

    assert browser.get("/blind").status_code == 200
    after = browser.get_cookie("session").value.partition(".")[0]
    assert after != before
    assert sessions.find_one({"_id": after})["data"]


def raw_document(sid, expires_at, damage):
    """BSON as no driver would write it."""
    good = bson.encode({"_id": sid, "expires_at": expires_at, "data": {"kept": "AAAA"}})
    return RawBSONDocument(damage(good))


INVALID = {
    "text that is no UTF-8": lambda good: good.replace(b"AAAA", b"\xff\xfe\xfd\xfc"),
    "a key that is no UTF-8": lambda good: good.replace(b"kept\x00", b"\xffept\x00"),
}


@pytest.fixture
def inserted_raw(app, sessions):
    """Stores malformed BSON under the session of a new browser."""

    def insert(damage):
        browser = app.test_client()
        browser.get("/write/kept/1")
        sid = browser.get_cookie("session").value.partition(".")[0]
        expires_at = sessions.find_one({"_id": sid})["expires_at"]
        sessions.delete_one({"_id": sid})
        sessions.insert_one(raw_document(sid, expires_at, damage))
        return browser

    return insert


@pytest.mark.parametrize("damage", INVALID.values(), ids=INVALID)
def test_malformed_bson(inserted_raw, store, damage):
    """It reads as an empty session, its neighbours are still listed, and the next write starts a new session."""
    browser = inserted_raw(damage)
    sid = browser.get_cookie("session").value.partition(".")[0]

    assert browser.get("/read/kept").text == "None"
    assert store.all() == {}
    assert browser.get("/count").text == "1"
    assert browser.get_cookie("session").value.partition(".")[0] != sid
    assert browser.get("/count").text == "2"


@pytest.mark.parametrize("damage", INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("path", ["/renew", "/logout", "/login/7", "/untouched"])
def test_malformed_bson_at_a_rotation_or_log_out(app, inserted_raw, damage, path):
    """Whatever meets it first."""

    @app.get("/renew")
    def renew():
        session.regenerate()
        return "new"

    assert inserted_raw(damage).get(path).status_code == 200


# -- size -------------------------------------------------------------------------------------------------------------


def test_the_limit_is_the_applications(make_app, sessions):
    """A session beyond ``SESSION_MAX_SIZE`` raises at the end of the request and stores nothing."""
    app = make_app(SESSION_MAX_SIZE=1000)

    @app.get("/<int:size>")
    def fill(size):
        session["x"] = "x" * size
        return "filled"

    browser = app.test_client()
    browser.get("/10")
    with pytest.raises(SessionTooLarge):
        browser.get("/2000")

    assert len(sessions.find_one()["data"]["x"]) == 10


@pytest.mark.parametrize("way", ["assign", "append"])
def test_growth_beyond_what_mongodb_stores(make_app, sessions, way):
    """Blind writes that add up to 16 MB end in an error, never in a loop; what was stored stays and can be read."""
    app = make_app(SESSION_MAX_SIZE=40 * 1024 * 1024, SESSION_MONGODB_TIMEOUT=20, TESTING=False)

    @app.get("/<int:number>")
    def grow(number):
        value = "x" * 6_000_000
        if way == "assign":
            session[f"key{number}"] = value
        else:
            session.append("list", value)
        return "grown"

    @app.get("/small")
    def small():
        session["small"] = session.get("small", 0) + 1
        return str(session["small"])

    browser = app.test_client()
    codes = [browser.get(f"/{number}").status_code for number in range(4)]

    assert codes == [200, 200, 500, 500]
    assert len(bson.encode(sessions.find_one())) < 16 * 1024 * 1024
    assert browser.get("/small").text == "1"


def test_one_value_beyond_what_mongodb_stores(make_app, sessions):
    """The first write of a session is refused the same way."""
    app = make_app(SESSION_MAX_SIZE=40 * 1024 * 1024, SESSION_MONGODB_TIMEOUT=20)

    @app.get("/")
    def fill():
        session["x"] = "x" * 17_000_000
        return "filled"

    with pytest.raises(SessionTooLarge):
        app.test_client().get("/")

    assert sessions.count_documents({}) == 0


# -- hostile keys and values ------------------------------------------------------------------------------------------

HOSTILE = ["$where", "$set", "a.b", "data.user_id", "expires_at", "user_id.$gt", "nul\x00nul", "", "%", "$", "~t"]
HOSTILE += ["_id", "__proto__", "constructor", "\ud800", "$expires_at", "$$NOW", "data", "ended_at", "%0000"]
HOSTILE_VALUES = [
    {"$gt": ""},
    {"$where": "1"},
    "$expires_at",
    "$$NOW",
    "$$ROOT",
    "\ud800",
    "a\x00b",
    {"a.b": {"$ne": 1}},
]
HOSTILE_VALUES += [{"~t": "tuple", "v": []}, {"": 1}, [{"$each": [1]}], {"$each": [1], "$slice": 0}, {"$literal": 1}]


@pytest.mark.parametrize("blind", [False, True], ids=["read first", "blind"])
def test_hostile_keys_and_values_are_data(make_app, sessions, blind):
    """Each comes back as it went in, next to an expiry and an owner that nobody changed."""
    app = make_app()

    @app.post("/<int:key>/<int:value>")
    def put(key, value):
        if not blind:
            session.get("x")
        session[HOSTILE[key]] = HOSTILE_VALUES[value]
        return "put"

    @app.get("/<int:key>/<int:value>")
    def check(key, value):
        return str(session[HOSTILE[key]] == HOSTILE_VALUES[value])

    browser = app.test_client()
    browser.post("/0/0")
    before = sessions.find_one()
    for key in range(len(HOSTILE)):
        for value in range(len(HOSTILE_VALUES)):
            assert browser.post(f"/{key}/{value}").status_code == 200
            assert browser.get(f"/{key}/{value}").text == "True"

    after = sessions.find_one()
    assert set(after) == set(before)
    assert after["_id"] == before["_id"]
    assert dt.timedelta(0) <= after["expires_at"] - before["expires_at"] < dt.timedelta(minutes=2)


@pytest.mark.parametrize("value", [{"$gt": ""}, {"$ne": None}, "$$NOW", "\ud800", ["a"], {"a": {"$where": "1"}}])
def test_a_hostile_user_is_a_text(make_app, sessions, value):
    """What is logged in becomes the text of the owner, never a condition; so does what is appended or popped."""
    app = make_app()

    @app.get("/")
    def login():
        session["user_id"] = value
        session.append("log", value)
        return "in"

    @app.get("/check")
    def check():
        return str(session["user_id"] == value and session["log"] == [value])

    browser = app.test_client()
    try:
        browser.get("/")
    except (TypeError, ValueError):
        assert sessions.count_documents({}) == 0
        return

    assert browser.get("/check").text == "True"
    assert isinstance(sessions.find_one()["user_id"], str)


@pytest.mark.parametrize("sid", [{"$gt": ""}, {"$ne": None}, None, b"x", 1, ["a"], "", "\ud800", "a\x00b"])
def test_only_text_is_a_session_id(app, store, sid):
    """A condition instead of an id finds and ends nothing."""
    app.test_client().get("/write/kept/1")
    try:
        assert store.find(sid) is None
        store.delete(sid)
    except (TypeError, UnicodeEncodeError, SessionStoreUnavailable) as error:
        pytest.fail(f"raised {error!r}")

    assert len(store.all()) == 1


def test_a_truncated_document_is_refused_by_the_driver_itself():
    """What would crash a decoder is an error that we count as damage."""
    with pytest.raises(bson.errors.InvalidBSON):
        bson.decode(struct.pack("<i", 100) + b"\x02a\x00")


def test_unknown_session_ids_are_cheap(app, commands):
    """A signed cookie of a session that is gone costs one find."""
    cookie = app.session_interface.signer(app).sign(CookieContent(new_session_id(), new_token()))

    assert send(app, cookie).text == "None"
    assert commands.names == ["find"]
