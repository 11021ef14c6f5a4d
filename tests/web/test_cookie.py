"""The session cookie: found by its name alone; what is accepted is what we signed; secrets stay out of sight."""

from __future__ import annotations

import hashlib
import hmac
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import Signer
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_mongo_session import new_session_id
from flask_mongo_session.session.state import CookieContent, new_token, token_hash
from flask_mongo_session.web.cookie import MAX_COOKIE_LENGTH, CookieSigner, find_cookie, says_permanent

SID, TOKEN = "s" * 22, "t" * 43
CONTENT = CookieContent(SID, TOKEN, permanent=True, deadline=1_800_000_000_000)
TEXT = f"{SID}.{TOKEN}.p{1_800_000_000_000:x}"
SIGNER = CookieSigner("secret")
ITSDANGEROUS = Signer(
    hmac.digest(b"secret", b"flask-mongoengine-session", "sha256"), key_derivation="none", digest_method=hashlib.sha256
)


def test_tokens_are_secrets():
    """A token is 256 random bits, a session id 128, in characters that a cookie may hold."""
    tokens, sids = {new_token() for _ in range(1000)}, {new_session_id() for _ in range(1000)}

    assert len(tokens) == len(sids) == 1000
    assert all(re.fullmatch(r"[\w-]{43}", token, re.ASCII) for token in tokens)
    assert all(re.fullmatch(r"[\w-]{22}", sid, re.ASCII) for sid in sids)


@pytest.mark.parametrize("token", ["a", "x" * 43, "grün", "\ud800"], ids=ascii)
def test_the_database_gets_a_hash(token):
    """What is stored of a token is its SHA-256, for any text at all."""
    assert token_hash(token) == hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


_deadlines = st.none() | st.integers(0, 253_402_300_799_999)  # to the end of the year 9999


@settings(deadline=None)
@given(st.booleans(), _deadlines, st.booleans())
def test_a_cookie_says_what_was_signed(permanent, deadline, pending):
    """What is signed comes back as it was, with a second token or without, in few bytes."""
    content = CookieContent(new_session_id(), new_token(), permanent, deadline, new_token() if pending else None)
    value = SIGNER.sign(content)

    assert SIGNER.read(value) == content
    assert len(value) < 200 < MAX_COOKIE_LENGTH
    assert says_permanent(value) is permanent


def test_no_character_can_be_changed():
    """Changing, removing or adding any character makes the cookie worthless."""
    value = SIGNER.sign(CONTENT)
    for at in range(len(value)):
        for other in (value[:at] + value[at + 1 :], f"{value[:at]}!{value[at + 1 :]}", f"{value[:at]}A{value[at:]}"):
            assert SIGNER.read(other) is None


@pytest.mark.parametrize(
    "value",
    ["", ".", "..", "a.b.c", "a.b.c.d", TEXT, "x" * MAX_COOKIE_LENGTH * 2, "\xe9.t.s.x", "\0", SID, TOKEN],
    ids=lambda value: ascii(value)[:20],
)
def test_garbage_is_nobody(value):
    """What we never signed says nothing, and is no error."""
    assert SIGNER.read(value) is None
    assert not says_permanent("".join(value.split("p")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.s",
        "a.b",
        "a.b.x",
        ".b.s",
        "a..s",
        "a.b..s",
        "a.b.",
        "a.b.c.d.s",
        "a.b.sz",
        "a.b.s-1",
        "a.b.s" + "f" * 15,
    ],
)
def test_signed_but_malformed(text):
    """Even under a good signature nothing but a cookie's content is one."""
    assert SIGNER.read(ITSDANGEROUS.sign(text).decode()) is None


def test_format_is_that_of_itsdangerous():
    """A cookie can be made and checked with itsdangerous, given the key that is derived from the secret one."""
    assert ITSDANGEROUS.unsign(SIGNER.sign(CONTENT)).decode() == TEXT
    assert SIGNER.read(ITSDANGEROUS.sign(TEXT).decode()) == CONTENT


def test_keys_are_rotated():
    """A new key signs; cookies of the old keys are accepted as long as they are named as fallbacks."""
    old, new = CookieSigner("old"), CookieSigner("new", ["older", "old"])

    assert new.read(old.sign(CONTENT)) == CONTENT
    assert CookieSigner("new").read(new.sign(CONTENT)) == CONTENT
    assert old.read(new.sign(CONTENT)) is None
    assert CookieSigner("new").read(old.sign(CONTENT)) is None


def test_keys_may_be_bytes():
    """Text and bytes name the same key."""
    assert CookieSigner(b"secret").read(SIGNER.sign(CONTENT)) == CONTENT


def test_other_signatures_do_not_count():
    """What the same secret key signed for another purpose is no session cookie here."""
    for signer in (Signer("secret"), Signer("secret", salt="cookie-session", key_derivation="hmac")):
        assert SIGNER.read(signer.sign(TEXT).decode()) is None


def test_repr_hides_the_token():
    """A cookie's content in a log gives nothing away; nor is it a sequence that a logger would unpack."""
    for text in (repr(CONTENT), str(CONTENT), f"{CONTENT}"):
        assert CONTENT.token not in text
        assert SID in text
    assert not isinstance(CONTENT, (tuple, list, dict))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("session=a", "a"),
        ("session=a; session=b", "a"),
        ("x=1; session=a", "a"),
        ("x=1;session=a;y=2", "a"),
        ("x=session; session=a", "a"),
        (" \tsession \t= \ta\t ; x=1", "a"),
        ('session="a"', "a"),
        ("session=", ""),
        ("xsession=a", None),
        ("sessionx=a", None),
        ("session", None),
        ("x=session=a", None),
        ("", None),
        ("\xa0session=a", None),
        ("session\xa0=a", None),
        ("\x85session=a", None),
        ("x=1;\xa0session=b; session=a", "a"),
        ("\u2000session=a".encode().decode("latin-1"), None),
    ],
    ids=ascii,
)
def test_a_cookie_is_found_by_its_name_alone(header, value):
    """Blanks and tabs around a name do not count (RFC 6265 §5.2); any other character makes it another name."""
    environ = EnvironBuilder().get_environ()
    environ["HTTP_COOKIE"] = header

    assert find_cookie(Request(environ), "session") == value
