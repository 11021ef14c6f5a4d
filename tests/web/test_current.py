"""``flask.session`` with types: still ``flask.session`` when the application runs."""

from typing import ClassVar, TypedDict

import flask
import pytest
import typing_extensions
from mongoengine import IntField, StringField

from flask_mongo_session import ModelError, SessionDocument, current_session, typed_session


class TypedSession(SessionDocument):
    theme = StringField(choices=("light", "dark"), default="light")
    visits = IntField()
    meta: ClassVar = {"collection": "sessions"}


class Keys(TypedDict):
    theme: str
    visits: int


class MoreKeys(Keys, total=False):
    coupon: str


def test_both_are_flasks_own_session(make_app):
    """What is written through one is read through the others, checked by the declared field."""
    app = make_app(TypedSession)
    typed = typed_session(TypedSession, MoreKeys)

    assert current_session is flask.session
    with app.test_request_context():
        assert typed["theme"] == "light"
        typed.update({"coupon": "SPRING"})
        current_session.increment("visits", 2)

        assert dict(flask.session) == {"coupon": "SPRING", "visits": 2}
        with pytest.raises(ValueError, match="theme"):
            typed["theme"] = "purple"


def test_a_declared_field_without_its_type_is_refused():
    """A field that was added or renamed in the model alone is noticed on import, by name."""
    with pytest.raises(ModelError, match=r"OldKeys does not name 'visits', which TypedSession declares"):
        typed_session(TypedSession, TypedDict("OldKeys", {"theme": str}))


def test_both_kinds_of_typed_dict_will_do():
    """Those of typing_extensions, too, which Python 3.10 needs for keys that are not required."""

    class Backport(typing_extensions.TypedDict):
        theme: str
        visits: typing_extensions.NotRequired[int]

    assert typed_session(TypedSession, Backport) is flask.session


@pytest.mark.parametrize("keys", [dict, TypedSession, {"theme": str}, None])
def test_what_is_no_typed_dict_is_refused(keys):
    """Arguments in the wrong order are told at once."""
    with pytest.raises(TypeError, match="takes a model and a TypedDict"):
        typed_session(TypedSession, keys)
