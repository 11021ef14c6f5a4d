"""The secret in the cookie: what is accepted is what we signed, and what is stored leads back to nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import Signer

from flask_mongo_session import new_token, session_id
from flask_mongo_session.session.tokens import MAX_COOKIE_LENGTH, CookieContent, CookieSigner

TICKET = CookieContent("a" * 43, 1_700_000_000_000, permanent=True, deadline=1_800_000_000_000)
SIGNER = CookieSigner("secret")
ITSDANGEROUS = Signer(
    hmac.digest(b"secret", b"flask-mongo-session", "sha256"), key_derivation="none", digest_method=hashlib.sha256
)


def test_tokens_are_secrets():
    """A token is 256 random bits in characters that a cookie may hold."""
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(re.fullmatch(r"[\w-]{43}", token, re.ASCII) for token in tokens)


@pytest.mark.parametrize("token", ["a", "x" * 43, "grün", "\ud800"], ids=ascii)
def test_session_id_is_the_tokens_hash(token):
    """The session id is SHA-256 in base64url without padding, for any text at all."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

    assert base64.urlsafe_b64decode(session_id(token) + "=") == digest
    assert len(session_id(token)) == 43


_times = st.integers(0, 253_402_300_799_999)  # to the end of the year 9999


@settings(deadline=None)
@given(st.booleans(), _times, st.none() | _times)
def test_ticket_round_trips(permanent, touched, deadline):
    """What travels beside the token comes back as it was, in far fewer bytes than a cookie may have."""
    ticket = CookieContent(new_token(), touched, permanent, deadline)
    value = SIGNER.sign(ticket)

    assert SIGNER.read(value) == ticket
    assert len(value) < 150 < MAX_COOKIE_LENGTH


def test_no_character_can_be_changed():
    """Changing, removing or adding any character makes the cookie worthless."""
    value = SIGNER.sign(TICKET)
    for at in range(len(value)):
        for other in (value[:at] + value[at + 1 :], f"{value[:at]}!{value[at + 1 :]}", f"{value[:at]}A{value[at:]}"):
            assert SIGNER.read(other) is None


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "a.b.c", TICKET.pack(), "x" * MAX_COOKIE_LENGTH * 2, "\xe9.s1.x", "\0", session_id(TICKET.token)],
    ids=lambda value: ascii(value)[:20],
)
def test_garbage_is_nobody(value):
    """What we never signed is no ticket, and no error."""
    assert SIGNER.read(value) is None


@pytest.mark.parametrize(
    "text", ["", "a", "a.s", "a.x1", ".s1", "a.s1.b", "a.sz", "a.s1-z", "a.p-1", "a.s1-fffffffffffffff"]
)
def test_signed_but_malformed(text):
    """Even under a good signature nothing but a ticket is one."""
    value = ITSDANGEROUS.sign(text).decode()

    assert SIGNER.read(value) is None


def test_format_is_that_of_itsdangerous():
    """A cookie can be made and checked with itsdangerous, given the key that is derived from the secret one."""
    assert ITSDANGEROUS.unsign(SIGNER.sign(TICKET)).decode() == TICKET.pack()
    assert SIGNER.read(ITSDANGEROUS.sign(TICKET.pack()).decode()) == TICKET


def test_keys_are_rotated():
    """A new key signs; tickets of the old keys are accepted as long as they are named as fallbacks."""
    old, new = CookieSigner("old"), CookieSigner("new", ["older", "old"])

    assert new.read(old.sign(TICKET)) == TICKET
    assert CookieSigner("new").read(new.sign(TICKET)) == TICKET
    assert old.read(new.sign(TICKET)) is None
    assert CookieSigner("new").read(old.sign(TICKET)) is None


def test_keys_may_be_bytes():
    """Text and bytes name the same key."""
    assert CookieSigner(b"secret").read(SIGNER.sign(TICKET)) == TICKET


def test_other_signatures_do_not_count():
    """What the same secret key signed for another purpose is no ticket here."""
    for signer in (Signer("secret"), Signer("secret", salt="cookie-session", key_derivation="hmac")):
        assert SIGNER.read(signer.sign(TICKET.pack()).decode()) is None


def test_repr_hides_the_token():
    """A ticket in a log or a traceback gives nothing away."""
    for text in (repr(TICKET), str(TICKET), f"{TICKET}"):
        assert TICKET.token not in text
        assert "permanent=True" in text
