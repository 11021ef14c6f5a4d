"""Hypothesis looks for bytes, values and documents that break something; for a minute where there is time."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from decimal import Decimal

import bson
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from flask_mongo_session.document import codec, decoding
from flask_mongo_session.exceptions import DamagedDocument, UnstorableValue
from flask_mongo_session.mongo.bson_types import CODEC_OPTIONS
from flask_mongo_session.session.state import CookieContent
from flask_mongo_session.web.cookie import CookieSigner

EXAMPLES = 150
#: Seconds of the long variant for each of the three.
SHARE = 8.0

QUIET = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)

texts = st.text(st.characters(codec=None), max_size=20)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.binary(max_size=20)
) | st.sampled_from([Decimal("1.5"), uuid.UUID(int=1), dt.date(2020, 1, 1), dt.timedelta(1), bson.ObjectId(b"x" * 12)])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
names = st.sampled_from(["~t", "v", "a", "", "$set", "a.b", "%", "data"])
kinds = st.sampled_from([*decoding._DECODERS, "unknown", "", 1, None])
bson_leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=9)
stored = st.recursive(
    bson_leaves | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(names, inner, max_size=4)
        | st.fixed_dictionaries({"~t": kinds, "v": inner})
    ),
    max_leaves=20,
)


def for_a_while(test, seconds):
    """Run a Hypothesis test again and again with other seeds until the time is up."""
    until, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        seed(rounds)(test)()
        rounds += 1
    return rounds


def fuzz_cookies(app):
    """Any text as a cookie is a session of nobody, unless it is the one that was signed."""
    signer = CookieSigner("the key")
    content = CookieContent("sid", "token")
    valid = signer.sign(content)
    client = app.test_client(use_cookies=False)

    @QUIET
    @given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=200), st.integers(0, len(valid)))
    def fuzz(noise, at):
        for cookie in (noise, valid[:at] + noise, noise + valid[at:], valid[:at] + noise + valid[at:]):
            assert signer.read(cookie) in (None, content)
        assert client.get("/read/kept", headers={"Cookie": f"session={noise}"}).status_code == 200

    return fuzz


def fuzz_codec(app):
    """What goes in comes out; what cannot go in says so; whatever is stored decodes or is damage."""

    @QUIET
    @given(values, stored)
    def fuzz(value, foreign):
        try:
            encoded = codec.encode("key", value)
        except UnstorableValue:
            encoded = None
        else:
            sent = bson.decode(bson.encode({"": encoded}, codec_options=CODEC_OPTIONS), CODEC_OPTIONS)
            assert codec.decode(sent[""]) == value
        with contextlib.suppress(DamagedDocument):
            codec.decode(foreign)

    return fuzz


def fuzz_documents(app, sessions):
    """Whatever a document holds, its owner gets an answer and can go on."""
    fields = ["data", "expires_at", "deadline", "touched_at", "ended_at", "user_id", "permanent", "created_at"]

    @settings(QUIET, max_examples=EXAMPLES // 5)
    @given(st.dictionaries(st.sampled_from(fields), stored, max_size=3))
    def fuzz(damage):
        browser = app.test_client()
        browser.get("/write/kept/1")
        sid = browser.get_cookie("session").value.partition(".")[0]
        document = {**sessions.find_one({"_id": sid}), **damage}
        sessions.replace_one({"_id": sid}, document)

        answers = [browser.get(path).status_code for path in ("/read/kept", "/write/kept/2", "/login/7", "/logout")]
        assert answers == [200] * 4
        sessions.delete_many({})

    return fuzz


@pytest.fixture
def fuzzers(app, sessions):
    """The three of them."""
    app.testing = False
    return [fuzz_cookies(app), fuzz_codec(app), fuzz_documents(app, sessions)]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["cookies", "codec", "documents"])
def test_a_short_fuzz(fuzzers, which):
    """A few hundred examples break nothing."""
    fuzzers[which]()


@pytest.mark.soak
@pytest.mark.parametrize("which", [0, 1, 2], ids=["cookies", "codec", "documents"])
def test_a_long_fuzz(fuzzers, which):
    """Nor do some seconds of each."""
    assert for_a_while(fuzzers[which], SHARE)
