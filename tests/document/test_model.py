"""The model: which declarations are allowed, and its objects in views, admin pages and scripts."""

from __future__ import annotations

import datetime as dt
from typing import ClassVar

import mongoengine
import pytest
from bson import ObjectId
from flask import session
from mongoengine import (
    CachedReferenceField,
    DictField,
    Document,
    DynamicEmbeddedDocument,
    DynamicField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    FileField,
    GenericEmbeddedDocumentField,
    GenericLazyReferenceField,
    GenericReferenceField,
    IntField,
    LazyReferenceField,
    ListField,
    MapField,
    ReferenceField,
    SequenceField,
    StringField,
)
from mongoengine.connection import disconnect

from flask_mongo_session import ModelError, MongoSessionStore, Session, SessionDocument, new_session_id

HOUR = dt.timedelta(hours=1)


class ShopSession(SessionDocument):
    theme = StringField(choices=("light", "dark"), default="light")
    cart = ListField(StringField())
    meta: ClassVar = {"collection": "sessions", "indexes": ["cart"]}


class GrownSession(SessionDocument):
    cart = ListField(StringField())
    currency = StringField(default="EUR")
    meta: ClassVar = {"collection": "sessions"}


class Family(SessionDocument):
    common = StringField()
    meta: ClassVar = {"collection": "sessions", "allow_inheritance": True}


class Child(Family):
    own = IntField()


class Mixin:
    mixed = StringField()


class WithMixin(Mixin, SessionDocument):
    meta: ClassVar = {"collection": "sessions"}


class Other(Document):
    meta: ClassVar = {"auto_create_index": False}


class Holder(EmbeddedDocument):
    other = ReferenceField(Other)


class Wild(DynamicEmbeddedDocument):
    name = StringField()


class Tree(EmbeddedDocument):
    leaf = GenericLazyReferenceField()
    branches = ListField(EmbeddedDocumentField("self"))


def declare(**fields):
    return type("Bad", (SessionDocument,), {"meta": {"collection": "bad"}, **fields})


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "_id",
        "_cls",
        "objects",
        "data",
        "user_id",
        "expires_at",
        "ended_at",
        "_private",
        "save",
        "contents",
        "pk",
        "ip",
    ],
)
def test_reserved_names(name):
    """A field named like a part of the session document is refused when the class is made."""
    with pytest.raises((ModelError, ValueError), match=name.strip("_")) as caught:
        declare(**{name: StringField()})

    assert isinstance(caught.value, ModelError) or name == "objects"


@pytest.mark.parametrize("db_field", ["_id", "data", "expires_at", "ended_at", "deadline", "_cls"])
def test_reserved_fields(db_field):
    """A field stored where the session document stores something else is refused, too."""
    with pytest.raises(ModelError, match=f"'{db_field}'"):
        declare(name=StringField(db_field=db_field))


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (StringField(required=True), "required: a session starts empty"),
        (StringField(unique=True), "unique: a session must never fail"),
        (StringField(unique_with="theme"), "unique.*must never fail"),
        (StringField(primary_key=True), "stored as '_id'"),
        (SequenceField(), "SequenceField: .*counter"),
        (FileField(), "FileField: .*ObjectIdField"),
        (ReferenceField(Other), "ReferenceField: .*LazyReferenceField or ObjectIdField"),
        (CachedReferenceField(Other), "CachedReferenceField: .*LazyReferenceField"),
        (GenericReferenceField(), "GenericReferenceField: .*ObjectIdField"),
        (ListField(ReferenceField(Other)), "ReferenceField: "),
        (MapField(ListField(ReferenceField(Other))), "ReferenceField: "),
        (EmbeddedDocumentField(Holder), "ReferenceField: "),
        (EmbeddedDocumentListField(Holder), "ReferenceField: "),
        (GenericEmbeddedDocumentField(choices=(Holder,)), "ReferenceField: "),
        (GenericEmbeddedDocumentField(choices=("Holder",)), "ReferenceField: "),
        (EmbeddedDocumentField("Holder"), "ReferenceField: "),
        (DynamicField(), "DynamicField: .*names? the class"),
        (ListField(DynamicField()), "DynamicField: "),
        (MapField(DynamicField()), "DynamicField: "),
        (DictField(DynamicField()), "DynamicField: "),
        (EmbeddedDocumentField(Wild), "DynamicField"),
        (ListField(EmbeddedDocumentField(Wild)), "Wild: .*DynamicFields"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refused_declarations(field, reason):
    """What a session cannot keep its promises with is refused when the class is made, with the reason."""
    with pytest.raises(ModelError, match=rf"Bad\.(field|theme).*{reason}"):
        declare(theme=StringField(), field=field)


@pytest.mark.parametrize(
    "field",
    [
        GenericLazyReferenceField,
        lambda: ListField(GenericLazyReferenceField()),
        lambda: MapField(GenericLazyReferenceField(choices=(Other,))),
        lambda: DictField(LazyReferenceField(Other)),
        lambda: EmbeddedDocumentField(Tree),
        lambda: EmbeddedDocumentListField("Tree"),
        lambda: GenericEmbeddedDocumentField(choices=("Tree",)),
        GenericEmbeddedDocumentField,
    ],
)
def test_accepted_declarations(field):
    """What follows a reference only when it is asked to may be declared, nested too."""
    assert list(declare(field=field()).schema().declared) == ["field"]


def test_refused_when_it_is_defined_later():
    """An embedded document that the model names before it exists is checked when the model is used."""
    model = declare(field=MapField(ListField(EmbeddedDocumentField("DefinedLater"))))
    assert list(model.schema().declared) == ["field"]

    type("DefinedLater", (EmbeddedDocument,), {"other": ReferenceField(Other)})
    with pytest.raises(ModelError, match=r"Bad\.field .* ReferenceField"):
        model.schema()


@pytest.mark.parametrize("model", [ShopSession, GrownSession, WithMixin, Family, Child])
def test_no_index_is_made_on_the_way(make_app, database, model):
    """Using the model creates no index behind a request: that happens in the background, or by command."""
    app = make_app(model)
    with app.app_context():
        assert model.objects.first() is None
        model(id="x", expires_at=dt.datetime.now(dt.timezone.utc) + HOUR).save()

    assert set(database["sessions"].index_information()) == {"_id_"}


@pytest.fixture
def shop(make_app):
    """An application with declared fields."""
    app = make_app(ShopSession)
    app.add_url_rule("/login/<user>", "login", lambda user: session.update(user_id=user, cart=[user]) or "in")
    app.add_url_rule("/theme", "theme", lambda: session["theme"])
    return app


def test_queries_by_the_databases_clock(shop, move_clock):
    """live(), expired() and of_user() judge by the database's now, not by the host's."""
    for user in ("1", "1", "2"):
        shop.test_client().get(f"/login/{user}")

    with shop.app_context():
        objects = ShopSession.objects
        assert (objects.live().count(), objects.expired().count()) == (3, 0)
        assert objects.of_user(1).count() == objects.live().of_user("1").count() == 2
        assert objects.live().filter(cart="2").get().user_id == "2"

        move_clock(shop.permanent_session_lifetime.total_seconds() + 1)
        assert (ShopSession.objects.live().count(), ShopSession.objects.expired().count()) == (0, 3)
        assert ShopSession.objects.of_user("1").count() == 0
        assert ShopSession.objects.expired().of_user("1").count() == 2


def test_ended_sessions_are_no_documents_of_theirs(shop):
    """What a log-out leaves for requests in flight is neither live nor expired, and nobody's."""
    browser = shop.test_client()
    browser.get("/login/7")
    with shop.app_context():
        shop.extensions["sessions"].revoke_user("7")
        objects = ShopSession.objects
        assert [objects.live().count(), objects.expired().count(), objects.of_user("7").count()] == [0, 0, 0]
        assert objects.expired().of_user("7").count() == 0
        assert objects.get().ended_at.utcoffset() == dt.timedelta(0)
        assert objects.get().contents == {"theme": "light", "cart": []}


def test_document_in_a_plain_view(shop):
    """An admin view reads, changes and saves documents; the session sees it."""
    browser = shop.test_client()
    browser.get("/login/7")

    with shop.app_context():
        document = ShopSession.objects.of_user(7).get()
        assert document.contents == {"user_id": "7", "cart": ["7"], "theme": "light"}
        document.theme = "dark"
        document.save()

    assert browser.get("/theme").text == "dark"
    with shop.app_context():
        ShopSession.objects.of_user(7).delete()
    assert browser.get("/theme").text == "light"


def test_repr_shows_no_contents(shop):
    """A document tells whose it is and until when, never what is in it."""
    shop.test_client().get("/login/secret-cart")
    with shop.app_context():
        document = ShopSession.objects.get()
        document.user_id = "7"

    assert "secret" not in repr(document)
    assert "'7'" in repr(document)


def test_dates_are_aware_whatever_the_client(shop):
    """Documents carry aware UTC dates, like everything else here."""
    shop.test_client().get("/login/7")
    with shop.app_context():
        assert ShopSession.objects.get().expires_at.utcoffset() == dt.timedelta(0)


def test_two_applications_keep_apart(make_app, client, database):
    """The same model in two applications with two databases: each sees its own sessions."""
    other = f"{database.name}_b"
    apps = make_app(), make_app(SESSION_MONGODB_DB=other)
    try:
        for number, app in enumerate(apps):
            app.add_url_rule("/", "put", lambda number=number: session.update(n=number) or "ok")
            app.test_client().get("/")
        for _ in range(2):
            for number, app in enumerate(apps):
                with app.app_context():
                    assert [document.contents for document in Session.objects] == [{"n": number}]
    finally:
        client.drop_database(other)


def test_a_model_may_grow_and_shrink(make_app, sessions):
    """A new field, a removed one: stored sessions go on, what the model no longer knows is left alone."""
    old, new = make_app(ShopSession), make_app(GrownSession)
    old.add_url_rule("/", "put", lambda: session.update(theme="dark", cart=["a"], free=1) or "ok")
    new.add_url_rule("/", "get", lambda: session.append("cart", "b") or {**session, "currency": session["currency"]})
    browser = old.test_client()
    browser.get("/")

    later = new.test_client()
    later.set_cookie("session", browser.get_cookie("session").value)
    assert later.get("/").json == {"cart": ["a", "b"], "free": 1, "currency": "EUR"}
    assert sessions.find_one()["theme"] == "dark"
    with new.app_context():
        assert GrownSession.objects.get().contents == {"currency": "EUR", "cart": ["a", "b"], "free": 1}


def test_inherited_models(make_app, sessions):
    """A model inherits its parent's fields; several in one collection are told apart by their class."""
    app = make_app(Child)
    app.add_url_rule("/", "put", lambda: session.update(common="a", own=1, free=2) or "ok")
    app.test_client().get("/")

    document = sessions.find_one()
    assert (document["_cls"], document["common"], document["own"], document["data"]) == (
        "Family.Child",
        "a",
        1,
        {"free": 2},
    )
    with app.app_context():
        assert Child.objects.live().get().own == 1
        assert Family.objects.get().own == 1
    with pytest.raises(ModelError, match="theme"):
        type("Bad", (Family,), {"theme": StringField(required=True)})


def test_a_child_of_the_managed_model(make_app):
    """Where an application manages a model, its relatives in the same collection are found in the same place."""
    app = make_app(Family)
    app.add_url_rule("/", "put", lambda: session.update(common="a") or "ok")
    app.test_client().get("/")

    with app.app_context():
        assert (Family.objects.count(), Child.objects.count()) == (1, 0)
        with pytest.raises(mongoengine.ConnectionFailure):
            Session.objects.count()


def test_fields_of_a_mixin(make_app, sessions):
    """A field may come from a plain mixin class."""
    app = make_app(WithMixin)
    app.add_url_rule("/", "put", lambda: session.update(mixed="a") or "ok")
    app.test_client().get("/")

    assert sessions.find_one()["mixed"] == "a"


def test_without_an_application(mongo_server, database):
    """Without Flask the model's MongoEngine alias says where: store and queries agree."""
    alias = mongoengine.connect(database.name, host=mongo_server.uri, uuidRepresentation="standard")
    try:
        store = MongoSessionStore(ShopSession, cleanup_interval=0, auto_index=False)
        sid = new_session_id()
        store.commit(sid, {"theme": "dark", "n": 1}, store.now() + HOUR)

        assert ShopSession.objects.live().get().contents == {"theme": "dark", "cart": [], "n": 1}
        assert ShopSession.objects.get(id=sid).expires_at.tzinfo is not None
        assert database["sessions"].count_documents({}) == 1
    finally:
        disconnect()
        alias.close()


def test_only_a_uri_is_needed(make_app, mongo_server, database):
    """``Model.objects`` works with nothing but an application that has a URI; no alias is registered."""
    app = make_app(ShopSession, SESSION_MONGODB=None, SESSION_MONGODB_URI=f"{mongo_server.uri}")
    app.add_url_rule("/", "put", lambda: session.update(cart=[str(ObjectId())]) or "ok")
    app.test_client().get("/")

    with app.app_context():
        assert ShopSession.objects.live().count() == 1
    with pytest.raises(mongoengine.ConnectionFailure):
        ShopSession.objects.count()
