"""Declared fields as session keys: what MongoEngine allows, how it is stored, what absence means."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import ClassVar

import pytest
from bson import ObjectId
from flask import session
from mongoengine import (
    BinaryField,
    BooleanField,
    ComplexDateTimeField,
    DateField,
    DateTimeField,
    Decimal128Field,
    DecimalField,
    DictField,
    Document,
    EmailField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    EnumField,
    FloatField,
    GenericEmbeddedDocumentField,
    GeoPointField,
    IntField,
    LazyReferenceField,
    ListField,
    LongField,
    MapField,
    ObjectIdField,
    PointField,
    SortedListField,
    StringField,
    URLField,
    UUIDField,
    ValidationError,
)

from flask_mongo_session import InvalidFieldValue, SessionDocument, UnstorableValue
from flask_mongo_session.document import codec
from flask_mongo_session.exceptions import DamagedDocument

NOW = dt.datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=dt.timezone.utc)
OID = ObjectId("0123456789abcdef01234567")


class Item(EmbeddedDocument):
    name = StringField(max_length=10)
    count = IntField(min_value=1)


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


def check_even(value):
    if value % 2:
        raise ValidationError("odd")


class Product(Document):
    meta: ClassVar = {"collection": "products", "auto_create_index": False}


class FullSession(SessionDocument):
    text = StringField(max_length=5)
    theme = StringField(choices=("light", "dark"), default="light")
    stored_elsewhere = StringField(db_field="x")
    whole = IntField(min_value=0, max_value=10)
    long = LongField()
    real = FloatField()
    flag = BooleanField()
    money = DecimalField(precision=2)
    exact = Decimal128Field()
    at = DateTimeField()
    at_exactly = ComplexDateTimeField()
    day = DateField()
    blob = BinaryField(max_bytes=4)
    uid = UUIDField()
    oid = ObjectIdField()
    email = EmailField()
    url = URLField()
    size = EnumField(Size)
    tags = ListField(StringField(max_length=3))
    mixed = ListField()
    ordered = SortedListField(IntField())
    record = DictField()
    counts = MapField(IntField())
    item = EmbeddedDocumentField(Item)
    basket = EmbeddedDocumentListField(Item)
    any_item = GenericEmbeddedDocumentField(choices=(Item,))
    product = LazyReferenceField(Product)
    point = GeoPointField()
    place = PointField(auto_index=False)
    even = IntField(validation=check_even)
    visits = IntField(default=0)
    started = IntField(default=5)
    history = ListField(IntField(), default=lambda: [1])
    meta: ClassVar = {"collection": "sessions"}


@pytest.fixture
def full(make_app):
    """An application of :class:`FullSession`, and a function that runs code in one browser's requests."""
    app = make_app(FullSession)
    jobs = []
    app.add_url_rule("/", "job", lambda: jobs.pop()() or "done")
    browser = app.test_client()

    def run(job):
        jobs.append(job)
        assert browser.get("/").text == "done"

    return run


ALLOWED = [
    ("text", "hello", "hello"),
    ("stored_elsewhere", "a", "a"),
    ("theme", "dark", "dark"),
    ("whole", 3, 3),
    ("whole", "7", 7),
    ("long", 2**40, 2**40),
    ("real", 1, 1.0),
    ("flag", True, True),
    ("money", Decimal("1.239"), Decimal("1.24")),
    ("exact", Decimal("1.2345678901"), Decimal("1.2345678901")),
    ("at", NOW, NOW),
    ("at", NOW.replace(tzinfo=None), NOW),
    ("at_exactly", dt.datetime(2024, 1, 1, 1, 1, 1, 123_456), dt.datetime(2024, 1, 1, 1, 1, 1, 123_456)),  # noqa: DTZ001
    ("day", dt.date(2024, 2, 29), dt.date(2024, 2, 29)),
    ("blob", b"\0\xff", b"\0\xff"),
    ("uid", uuid.UUID(int=5), uuid.UUID(int=5)),
    ("oid", str(OID), OID),
    ("email", "a@example.org", "a@example.org"),
    ("url", "https://example.org/", "https://example.org/"),
    ("size", Size.LARGE, Size.LARGE),
    ("tags", ["a", "b"], ["a", "b"]),
    ("mixed", [1, "a"], [1, "a"]),
    ("ordered", [3, 1, 2], [1, 2, 3]),
    ("record", {"a": [1]}, {"a": [1]}),
    ("counts", {"a": 1}, {"a": 1}),
    ("item", Item(name="a", count=2), Item(name="a", count=2)),
    ("basket", [Item(name="a"), Item(name="b")], [Item(name="a"), Item(name="b")]),
    ("any_item", Item(name="a"), Item(name="a")),
    ("point", [1.5, 2.5], [1.5, 2.5]),
    ("place", [1, 2], {"type": "Point", "coordinates": [1, 2]}),
    ("even", 2, 2),
    ("text", None, None),
]


@pytest.mark.parametrize(("key", "value", "wanted"), ALLOWED, ids=lambda v: str(v)[:20])
def test_field_round_trips(full, sessions, key, value, wanted):
    """A declared key answers with what its field makes of the value, at once and in the next request."""

    def put():
        session["other"], session[key] = 1, value
        assert session[key] == wanted

    def get():
        assert session[key] == wanted
        assert isinstance(session[key], type(wanted))
        assert not session.modified

    full(put)
    full(get)

    document = sessions.find_one()
    assert FullSession._fields[key].db_field in document
    assert document["data"] == {"other": 1}


def test_lazy_reference(full):
    """A reference is kept by id and followed only when asked to."""
    full(lambda: session.update(product=Product(id=OID)))
    full(lambda: pytest.fail("other id") if session["product"].pk != OID else None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("theme", "purple"),
        ("text", "too long"),
        ("text", 5),
        ("whole", -1),
        ("whole", "many"),
        ("email", "nobody"),
        ("oid", "short"),
        ("size", "m"),
        ("tags", ["long one"]),
        ("tags", "abc"),
        ("tags", [object()]),
        ("mixed", [object()]),
        ("counts", {"a": "b"}),
        ("record", {"a": object()}),
        ("record", {1: 2}),
        ("item", Item(count=0)),
        ("item", {"name": "a"}),
        ("basket", [Item(name="much too long")]),
        ("blob", b"12345"),
        ("uid", "no"),
        ("even", 3),
        ("at", "yesterday"),
        ("long", 2**64),
        ("flag", "yes"),
        ("real", "x"),
        ("money", "x"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_refused_at_assignment(make_app, key, value):
    """What the field does not allow raises at once, naming key and field; the session keeps what it had."""
    with make_app(FullSession).test_request_context():
        with pytest.raises(
            InvalidFieldValue, match=rf"'{key}' \({type(FullSession._fields[key]).__name__}\)"
        ) as caught:
            session[key] = value

        assert isinstance(caught.value, ValidationError)
        assert key not in session


def test_refused_in_place(full, sessions):
    """A value that is made invalid in place is refused when it is saved; the stored one stays."""
    full(lambda: session.update(tags=["a"]))
    with pytest.raises(InvalidFieldValue, match="tags"):
        full(lambda: session["tags"].append("too long"))

    assert sessions.find_one()["tags"] == ["a"]


def test_defaults_are_not_there(full, sessions):
    """A default answers to its key and to get, but is not counted, listed, contained, popped or stored."""

    def check():
        assert (session["theme"], session.get("theme"), session.get("theme", "other")) == ("light",) * 3
        assert "theme" not in session
        assert (len(session), list(session), dict(session), bool(session.modified)) == (0, [], {}, False)
        assert session.pop("theme", "none") == "none"
        with pytest.raises(KeyError):
            del session["theme"]
        with pytest.raises(KeyError):
            session["text"]
        assert session.get("text") is None

    full(check)
    assert sessions.count_documents({}) == 0

    full(lambda: session.update(text="x"))
    full(lambda: session["theme"] and None)
    assert "theme" not in sessions.find_one()


def test_defaults_are_watched(full, sessions):
    """A mutable default that is changed in place becomes the value; each session has its own."""
    full(lambda: session["tags"].append("a"))
    assert sessions.find_one()["tags"] == ["a"]

    full(lambda: session["history"].append(2))
    assert sessions.find_one()["history"] == [1, 2]

    assert FullSession._fields["tags"].default() == []


def test_removed_after_the_default_was_changed(full, sessions):
    """Whoever removes the key after changing its default in place has removed it."""

    def change_and_remove():
        session["text"] = "kept"
        session["tags"].append("a")
        assert session.modified
        assert session.pop("tags") == ["a"]

    full(change_and_remove)
    assert "tags" not in sessions.find_one()


def test_changed_default_is_saved_once(make_app, commands):
    """What was saved counts as saved: asking again about changes finds none."""
    app = make_app(FullSession)
    with app.test_request_context():
        session["tags"].append("a")
        current = session._get_current_object()
        app.session_interface.save_session(app, current, app.response_class())
        commands.clear()
        app.session_interface.save_session(app, current, app.response_class())

    assert commands.names == []


def test_embedded_document_is_watched(full, sessions):
    """An embedded document that is changed in place is saved."""
    full(lambda: session.update(item=Item(name="a", count=1)))

    def change():
        session["item"].count = 7

    full(change)
    assert sessions.find_one()["item"] == {"name": "a", "count": 7}


def test_removing_a_declared_key(full, sessions):
    """The field goes from the document, and the default answers again."""
    full(lambda: session.update(theme="dark", text="x"))

    def remove():
        del session["theme"]
        assert session["theme"] == "light"

    full(remove)
    assert "theme" not in sessions.find_one()


def test_increment_and_append_on_fields(full, sessions):
    """Numbers and lists are changed in the database, checked by their fields first."""
    full(lambda: session.update(text="x"))

    def change():
        session.increment("visits")
        session.append("tags", "a")
        session.append("mixed", "any")

    full(change)
    full(change)
    document = sessions.find_one()
    assert (document["visits"], document["tags"], document["mixed"]) == (2, ["a", "a"], ["any", "any"])


@pytest.mark.parametrize(
    "change",
    [
        lambda: session.increment("text"),
        lambda: session.increment("started"),
        lambda: session.increment("visits", 0.5),
        lambda: (session["flag"], session.increment("whole", 11)),
        lambda: session.append("text", "a"),
        lambda: session.append("tags", "too long"),
        lambda: session.append("history", 1),
    ],
)
def test_increment_and_append_refused(full, change):
    """What the field does not allow, or a default that the database does not know, is refused at once."""
    full(lambda: session.update(flag=True))
    with pytest.raises(InvalidFieldValue, match="Session key"):
        full(change)


def test_a_change_in_place_is_refused_after_the_view(make_app, sessions):
    """Too late for the view to catch it: the error handler answers, and nothing of the request is saved."""
    app = make_app(FullSession)

    @app.route("/tags/<name>")
    def tag(name):
        session["text"] = name
        session["tags"].append(name)
        return "tagged"

    app.register_error_handler(InvalidFieldValue, lambda error: (f"refused: {error}", 400))
    browser = app.test_client()
    assert browser.get("/tags/a").text == "tagged"

    answer = browser.get("/tags/long")
    assert answer.status_code == 400
    assert "'tags'" in answer.text
    record = sessions.find_one()
    assert (record["tags"], record["text"]) == (["a"], "a")


def test_stored_value_that_no_longer_fits(full, sessions):
    """A model may change its fields: what does not fit any more is read as it is stored, and can be replaced."""
    full(lambda: session.update(text="x", other=1))
    sessions.update_one({}, {"$set": {"day": "never", "item": 5, "whole": 99, "removed_field": 1}})

    def check():
        assert (session["text"], session["other"], session["item"]) == ("x", 1, 5)
        assert (session["day"], session["whole"]) == ("never", 99)
        assert "removed_field" not in session

    full(check)
    full(lambda: session.update(item=Item(name="a")))
    assert sessions.find_one()["item"] == {"name": "a"}


def test_encoding_is_that_of_the_field(full, sessions):
    """The document holds what MongoEngine would store, so that queries by the field find it."""
    full(lambda: session.update(at=NOW, money=Decimal("1.5"), item=Item(name="a")))

    assert sessions.find_one()["item"] == {"name": "a"}
    found = FullSession(money=Decimal("1.5")).to_mongo()["money"]
    assert sessions.find_one()["money"] == found


def test_free_form_keys_live_under_data(full, sessions):
    """Keys without a field, whatever they are called, lie beside each other under ``data``."""
    full(lambda: session.update({"expires_at": 1, "x": 2, "ended_at": 3, "user_agent": 4, "theme": "dark"}))

    document = sessions.find_one()
    assert document["data"] == {"expires_at": 1, "x": 2, "ended_at": 3, "user_agent": 4}
    assert document["theme"] == "dark"
    assert set(document) == {"_id", "token", "data", "theme", "created_at", "expires_at", "touched_at"}


def test_keys_and_data_of_the_wrong_type():
    """A key that is no text is refused by name; data that are no document are damage."""
    schema = FullSession.schema()
    with pytest.raises(UnstorableValue, match="Session keys are text, not int"):
        schema.encode(5, "x")
    with pytest.raises(DamagedDocument, match="no document"):
        schema.gather({"data": [1]})


def test_all_values_at_once():
    """All values of a record are decoded together, declared and free-form ones."""
    schema = FullSession.schema()
    encoded = {"free": codec.encode("free", (1,)), "money": schema.encode("money", "1.5"), "item": 5}

    assert schema.decode_all(schema.gather(schema.split(encoded))) == {
        "free": (1,),
        "money": Decimal("1.50"),
        "item": 5,
    }
