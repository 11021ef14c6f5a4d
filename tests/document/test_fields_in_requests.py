"""Declared fields of every kind, nested in every way, in real requests of two visitors: the table of ``field_table``.

What a field does to a single value is in ``test_declared_field``; here is what visitors see of it.
"""

from __future__ import annotations

import copy

import pytest
from field_table import ROWS, WRAPPINGS, declared
from flask import session
from mongoengine import ValidationError

from flask_mongo_session import InvalidFieldValue, SessionDocument

each_wrapping = pytest.mark.parametrize(
    "wrapping",
    [WRAPPINGS[0], *(pytest.param(wrapping, marks=pytest.mark.soak) for wrapping in WRAPPINGS[1:])],
    ids=[wrapping.name for wrapping in WRAPPINGS],
)


class Visitor:
    """A browser that takes its cookie to any of the applications, and does in a request what it is told."""

    def __init__(self):
        self.cookie = None

    def visit(self, app, deed):
        """The value of *deed*, called in a view; what it raises, and what the save raises, is raised."""
        answers = []

        def view():
            answers.append(deed())
            return "answered"

        app.view_functions["deed"] = view
        browser = app.test_client()
        if self.cookie:
            browser.set_cookie("session", self.cookie)
        assert browser.get("/").text == "answered"
        found = browser.get_cookie("session")
        self.cookie = found.value if found else None
        return answers[0]

    def put(self, app, value):
        self.visit(app, lambda: session.__setitem__("field", value))

    def read(self, app):
        return self.visit(app, lambda: session["field"])


@pytest.fixture
def app_of(make_app):
    """Makes applications on one collection, with the models that they are given."""

    def app_of(model):
        app = make_app(model)
        app.add_url_rule("/", "deed")
        return app

    return app_of


def plain_model():
    """The model without the field."""
    return type("TableSession", (SessionDocument,), {"meta": {"collection": "sessions"}})


def refuse(_value):
    raise ValidationError("never")


@each_wrapping
def test_assigned_read_and_changed(app_of, sessions, wrapping):
    """Read as assigned, by the same request and the next; read pages store nothing; a change in place is kept.

    Two visitors who were given the same object share nothing of it.
    """
    for row in ROWS:
        app, mine, yours = app_of(declared(row, wrapping)), Visitor(), Visitor()
        value = wrapping.put(row, copy.deepcopy(row.value))

        def put_and_read(value=value):
            session["field"] = value
            return session["field"]

        for visitor in (mine, yours):
            assert wrapping.get(visitor.visit(app, put_and_read)) == row.wanted, row.name
        stored = list(sessions.find())
        assert wrapping.get(mine.read(app)) == row.wanted, row.name
        assert isinstance(wrapping.get(yours.read(app)), type(row.wanted)), row.name
        assert list(sessions.find()) == stored, row.name

        if row.change:
            mine.visit(app, lambda row=row: row.change(wrapping.get(session["field"])))
            assert wrapping.get(mine.read(app)) == row.changed, row.name
        mine.put(app, wrapping.put(row, copy.deepcopy(row.other)))
        assert wrapping.get(mine.read(app)) != row.wanted, row.name
        assert wrapping.get(yours.read(app)) == row.wanted, row.name
        sessions.delete_many({})


@each_wrapping
def test_defaults(app_of, sessions, wrapping):
    """Constant, mutable or called: answered, never stored by reading, a visitor's own once it was changed in place."""
    for row in ROWS:
        value = wrapping.put(row, copy.deepcopy(row.wanted))
        wanted = wrapping.get(copy.deepcopy(value))
        for default in (value, lambda value=value: value):
            app = app_of(declared(row, wrapping, outer={"default": default}))
            mine, yours = Visitor(), Visitor()
            for visitor in (mine, yours):
                assert wrapping.get(visitor.read(app)) == wanted, row.name
                assert not visitor.visit(app, lambda: "field" in session or len(session)), row.name
            assert sessions.count_documents({}) == 0, row.name
            if row.change:
                mine.visit(app, lambda row=row: row.change(wrapping.get(session["field"])))
                assert wrapping.get(mine.read(app)) == row.changed, row.name
                assert mine.visit(app, lambda: list(session)) == ["field"], row.name
                assert wrapping.get(mine.visit(app, lambda: session.pop("field"))) == row.changed, row.name
            assert wrapping.get(mine.read(app)) == wrapping.get(yours.read(app)) == wanted, row.name
            sessions.delete_many({})


@pytest.mark.parametrize("row", [row for row in ROWS if row.change], ids=lambda row: row.name)
def test_a_default_changed_in_place_is_a_value(app_of, row):
    """What follows first in the same request sees it, whatever that is."""
    app = app_of(declared(row, default=lambda: copy.deepcopy(row.wanted)))
    changed = copy.deepcopy(row.wanted)
    row.change(changed)

    def change_then(follow):
        row.change(session["field"])
        return follow()

    def put_changed():
        session.append("field", row.item)
        return session["field"]

    assert Visitor().visit(app, lambda: change_then(lambda: "field" in session))
    assert Visitor().visit(app, lambda: change_then(lambda: list(session))) == ["field"]
    assert Visitor().visit(app, lambda: change_then(lambda: session.setdefault("field"))) == changed
    assert Visitor().visit(app, lambda: change_then(lambda: session.pop("field"))) == changed
    visitor = Visitor()
    visitor.visit(app, lambda: session.update(free=1))
    visitor.visit(app, lambda: change_then(lambda: session.__delitem__("field")))
    assert visitor.visit(app, lambda: "field" in session) is False
    if row.item is not ...:
        visitor.visit(app, lambda: change_then(put_changed))
        assert visitor.read(app) == [*changed, row.item]


@each_wrapping
def test_a_tightened_validator(app_of, sessions, wrapping):
    """Stored values that are refused today: pages that read, write other keys, remove it or log out go on as before."""
    for row in ROWS:
        app, visitor = app_of(declared(row, wrapping)), Visitor()
        visitor.put(app, wrapping.put(row, copy.deepcopy(row.value)))
        tight = app_of(declared(row, wrapping, outer={"validation": refuse}))

        assert wrapping.get(visitor.read(tight)) == row.wanted, row.name
        visitor.visit(tight, lambda: (session["field"], session.update(free=1, user_id="7")))
        assert wrapping.get(visitor.read(tight)) == row.wanted, row.name
        with pytest.raises(InvalidFieldValue):
            visitor.put(tight, wrapping.put(row, copy.deepcopy(row.other)))
        if row.change:
            with pytest.raises(InvalidFieldValue):
                visitor.visit(tight, lambda row=row: row.change(wrapping.get(session["field"])))
        assert wrapping.get(visitor.read(app)) == row.wanted, row.name

        leaver = Visitor()
        leaver.cookie = visitor.cookie
        visitor.visit(tight, lambda: session.pop("field"))
        assert visitor.visit(tight, lambda: dict(session)) == {"free": 1, "user_id": "7"}, row.name
        visitor.put(app, wrapping.put(row, copy.deepcopy(row.value)))
        leaver.visit(tight, lambda: (session["field"], session.clear()))
        assert visitor.visit(app, lambda: dict(session)) == {}, row.name
        sessions.delete_many({})


@each_wrapping
def test_removed_and_restored(app_of, sessions, wrapping):
    """Without the field its value stays, unseen; restored it is what it was. What is written meanwhile is newer."""
    without = app_of(plain_model())
    for row in ROWS:
        app, visitor = app_of(declared(row, wrapping)), Visitor()
        visitor.put(app, wrapping.put(row, copy.deepcopy(row.value)))
        assert visitor.visit(without, lambda: dict(session)) == {}, row.name
        visitor.visit(without, lambda: session.update(free=1))
        assert wrapping.get(visitor.read(app)) == row.wanted, row.name

        visitor.visit(without, lambda: session.update(field="meanwhile"))
        assert visitor.visit(app, lambda: "field" in session and session["free"]) == 1, row.name
        visitor.visit(app, lambda: session.pop("field"))
        assert visitor.visit(app, lambda: dict(session)) == {"free": 1}, row.name
        assert visitor.visit(without, lambda: dict(session)) == {"free": 1}, row.name
        sessions.delete_many({})


@pytest.mark.parametrize("row", [row for row in ROWS if row.item is not ...], ids=lambda row: row.name)
def test_append(app_of, row):
    """To what is stored, to nothing, in a request that reads and in one that does not."""
    app = app_of(declared(row))
    for prepare in (lambda: None, lambda: session.get("field")):
        visitor = Visitor()
        for wanted in ([row.item], [row.item] * 2, [row.item] * 2):
            visitor.visit(app, lambda prepare=prepare: (prepare(), session.append("field", row.item, limit=2)))
            assert visitor.read(app) == wanted
        visitor.put(app, copy.deepcopy(row.value))
        visitor.visit(app, lambda prepare=prepare: (prepare(), session.append("field", row.item)))
        assert visitor.read(app) == [*row.wanted, row.item]


@pytest.mark.parametrize("row", [row for row in ROWS if row.by is not ...], ids=lambda row: row.name)
def test_increment(app_of, row):
    """What is stored, nothing, in a request that reads and in one that does not."""
    app = app_of(declared(row))
    for prepare in (lambda: None, lambda: session.get("field")):
        visitor = Visitor()
        for times in (1, 2, 3):
            visitor.visit(app, lambda prepare=prepare: (prepare(), session.increment("field", row.by)))
            assert visitor.read(app) == row.by * times
        visitor.put(app, row.value)
        visitor.visit(app, lambda prepare=prepare: (prepare(), session.increment("field", row.by)))
        assert visitor.read(app) == row.value + row.by


def test_increment_by_a_whole_number(app_of):
    """The sum is of the field's type, in the request that adds and in the next."""
    row = next(row for row in ROWS if row.name == "FloatField")
    app, visitor = app_of(declared(row)), Visitor()
    visitor.visit(app, lambda: session.update(free=1))

    answers = [visitor.visit(app, lambda: (session["free"], session.increment("field"), session["field"]))[-1]]
    answers.append(visitor.read(app))
    assert list(map(repr, answers)) == ["1.0", "1.0"]
