"""Which session a request is about: the cookie is read when somebody asks, once."""

from __future__ import annotations

import pytest

from flask_mongo_session.document.record import Missing
from flask_mongo_session.document.schema import Schema
from flask_mongo_session.session.state import Origin
from flask_mongo_session.session.tokens import CookieContent, new_token, session_id
from flask_mongo_session.session.values import TrackedValues


def session_of(ticket):
    """A session of nothing but its identity."""
    return TrackedValues(Schema({}), lambda _sid: Missing.UNKNOWN, ticket)


@pytest.fixture
def ticket():
    """What some cookie says."""
    return CookieContent(new_token(), touched=1)


@pytest.fixture
def reads():
    """How often the cookie was read: one entry each time."""
    return []


@pytest.mark.parametrize("name", ["ticket", "presented", "origin", "token", "sid"])
def test_the_cookie_is_read_once_when_somebody_asks(ticket, reads, name):
    """Not before, and whatever is asked for."""
    session = session_of(lambda: reads.append(1) or ticket)
    assert session.unopened
    assert reads == []

    assert getattr(session, name) is not None
    assert not session.unopened
    assert (session.ticket, session.presented, session.origin) == (ticket, ticket, Origin.UNREAD)
    assert (session.token, session.sid) == (ticket.token, session_id(ticket.token))
    assert reads == [1]


@pytest.mark.parametrize("nothing", [None, lambda: None], ids=["no cookie", "a forged one"])
def test_no_cookie_of_ours(nothing):
    """Then there is no session to look for."""
    session = session_of(nothing)

    assert (session.ticket, session.presented, session.origin) == (None, None, Origin.NONE)
    assert (session.token, session.sid) == (None, None)


def test_what_was_set_meanwhile_stays(ticket):
    """Reading the cookie late takes nothing back."""
    session = session_of(lambda: ticket)
    session.origin = Origin.FAILED

    assert session.ticket == ticket
    assert session.origin is Origin.FAILED


def test_a_session_that_is_gone_has_no_token(ticket):
    """Its id is remembered, for those who count."""
    session = session_of(ticket)
    session.reject(Missing.EXPIRED)
    session.origin = Origin.GONE

    assert (session.token, session.sid) == (None, None)
    assert (session.rejection, session.rejected_sid) == (Missing.EXPIRED, session_id(ticket.token))


def test_other_attributes_are_errors(ticket, reads):
    """A mistake is a mistake, and reads nothing."""
    session = session_of(lambda: reads.append(1) or ticket)

    with pytest.raises(AttributeError, match="'TrackedValues' object has no attribute 'tickets'"):
        _ = session.tickets
    assert reads == []
