"""``typed_session`` gives the keys of a declared session their types."""

from typing import Literal

from bson import ObjectId
from mongoengine import IntField, ListField, ObjectIdField, StringField
from typing_extensions import NotRequired, TypedDict, assert_type

from flask_mongo_session import SessionDocument, typed_session

Theme = Literal["light", "dark"]


class ShopSession(SessionDocument):
    """What the database and the session check, when the application runs."""

    theme = StringField(choices=("light", "dark"), default="light")
    cart = ListField(ObjectIdField())
    visits = IntField()


class ShopKeys(TypedDict):
    """What the type checker checks, before it runs."""

    theme: Theme
    cart: list[ObjectId]
    visits: NotRequired[int]
    coupon: NotRequired[str]


shop = typed_session(ShopSession, ShopKeys)


def right() -> None:
    """Keys have the types that they were given."""
    assert_type(shop["theme"], Theme)
    assert_type(shop["cart"], list[ObjectId])
    assert_type(shop.get("visits"), int | None)
    assert_type(shop.get("visits", 0), int)
    assert_type(shop.setdefault("coupon", "none"), str)

    shop["theme"] = "dark"
    shop["cart"].append(ObjectId())
    shop.update({"visits": 1})
    shop.pop("visits", None)
    if "coupon" in shop:
        del shop["coupon"]


def mistakes() -> None:
    """Each of these lines is an error; an ignore without one would be an error itself."""
    shop["theme"] = "purple"  # type: ignore[typeddict-item]
    shop["cart"] = [1, 2]  # type: ignore[list-item]
    shop["cart"].append("an id as text")  # type: ignore[arg-type]
    shop["visits"] = "many"  # type: ignore[typeddict-item]
    shop["them"] = "dark"  # type: ignore[typeddict-unknown-key]
    print(shop["carts"])  # type: ignore[typeddict-item]  # noqa: T201
    typed_session(ShopKeys, ShopSession)  # type: ignore[arg-type]
    typed_session(ShopSession)  # type: ignore[call-arg]
