"""What the shop keeps: the session, declared; customers; products. All of it in one MongoDB."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone

from bson import ObjectId
from bson.codec_options import CodecOptions
from flask_login import UserMixin
from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    IntField,
    ListField,
    ObjectIdField,
    StringField,
)
from pymongo.collection import Collection
from pymongo.database import Database
from werkzeug.security import check_password_hash, generate_password_hash

from flask_mongo_session import SessionDocument

from .database import database

# "system" follows the visitor's device.
THEMES = ("system", "light", "dark")

# Checked when the e-mail is unknown, so that the answer takes as long as for a wrong password.
NOBODY = generate_password_hash("nobody has this password")


class ShopSession(SessionDocument):
    """What the shop knows about a visit. ``cart`` holds one product id per piece: two mugs are the same id twice."""

    theme = StringField(choices=THEMES, default="system")
    cart = ListField(ObjectIdField())

    meta = {"collection": "shop_sessions", "indexes": ["cart"]}


class ShopDocument(Document):
    """A document of the current application, kept beside its sessions: same server, same database, same client."""

    meta = {"abstract": True, "auto_create_index": False, "strict": False}

    @classmethod
    def _get_db(cls) -> Database[t.Any]:
        return database()

    @classmethod
    def _get_collection(cls) -> Collection[t.Any]:
        options: CodecOptions[t.Any] = CodecOptions(tz_aware=True)

        return cls._get_db().get_collection(cls._get_collection_name(), codec_options=options)


class User(ShopDocument, UserMixin):
    """A customer, or a member of the staff."""

    email = StringField(required=True, max_length=254)
    name = StringField(required=True, max_length=80)
    password_hash = StringField(required=True)
    is_staff = BooleanField(default=False)
    joined_at = DateTimeField(default=lambda: datetime.now(timezone.utc))

    meta = {"collection": "users", "indexes": [{"fields": ["email"], "unique": True}]}

    @classmethod
    def by_id(cls, user_id: str) -> User | None:
        """The user with this id; ``None`` when there is none or the id is no id."""
        return cls.objects(id=user_id).first() if ObjectId.is_valid(user_id) else None

    @classmethod
    def by_password(cls, email: str, password: str) -> User | None:
        """The user whose e-mail and password these are; ``None`` takes equally long for either being wrong."""
        user = cls.objects(email=email).first()
        matches = check_password_hash(user.password_hash if user else NOBODY, password)

        return user if matches else None

    def set_password(self, password: str) -> None:
        """Keep the hash of ``password``; the caller saves."""
        self.password_hash = generate_password_hash(password)

    def has_password(self, password: str) -> bool:
        """Whether ``password`` is this user's."""
        return check_password_hash(self.password_hash, password)


class Product(ShopDocument):
    """Something to buy. ``price`` is in cents; ``art`` names the drawing and ``glaze`` its colour."""

    slug = StringField(required=True)
    name = StringField(required=True)
    summary = StringField(required=True)
    story = StringField(required=True)
    price = IntField(required=True, min_value=0)
    art = StringField(required=True)
    glaze = StringField(required=True)
    shelf = IntField(default=0)

    meta = {"collection": "products", "ordering": ["shelf"], "indexes": [{"fields": ["slug"], "unique": True}]}

    @property
    def in_carts(self) -> int:
        """How many visitors have this in their cart right now: a query over live sessions, answered by an index."""
        return ShopSession.objects.live().filter(cart=self.id).count()
