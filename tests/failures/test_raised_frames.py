"""Whatever raises leaves no token behind: error reporters send the local variables of each frame to somebody."""

from __future__ import annotations

import contextlib
import typing as t

import pytest
from flask import session
from werkzeug.datastructures import EnvironHeaders

from flask_mongo_session import SessionStoreUnavailable
from flask_mongo_session.session import unit_of_work

#: A failure, by the commands that are to fail, how many of them go through before, and how they fail.
Failure = tuple[tuple[str, ...], int, dict[str, t.Any]]
REFUSED, CLOSED = {"errorCode": 13}, {"closeConnection": True}
UNCONFIRMED = {"writeConcernError": {"code": 64, "errmsg": "x", "errInfo": {"wtimeout": True}}}


def read(_other):
    session.get("cart")


def write(_other):
    session["a"] = 1


def log_in(_other):
    session["user_id"] = "7"


def leave(_other):
    session.pop("user_id")


def clear(_other):
    session.clear()


def clear_and_log_in(_other):
    session.clear()
    session["user_id"] = "8"


def regenerate(_other):
    session.regenerate()


def confirm(_other):
    session.confirm()


def merge(other):
    session.merge(other["token"])


def ask_for_the_token(_other):
    assert session.token
    session.get("cart")


def outgrow(_other):
    session["big"] = "x" * 2_000_000


def outgrow_and_rotate(_other):
    session.regenerate()
    session["big"] = "x" * 2_000_000


def spoil(_other):
    session["list"] = []
    session["list"].append(object())


def add_to_a_text(_other):
    session.increment("cart")


def spoil_a_rotation(_other):
    session.confirm()
    session.increment("cart")


def assign_nonsense(_other):
    session.get("cart")
    session["a"] = object()


READS = (read, log_in, leave, clear_and_log_in, regenerate, confirm, merge, ask_for_the_token)
WRITES = (write, log_in, leave, clear, clear_and_log_in, regenerate, confirm, merge)
FAULTS = (outgrow, outgrow_and_rotate, spoil, add_to_a_text, spoil_a_rotation, assign_nonsense)
CASES: list[tuple[str, t.Callable[[t.Any], None], Failure | None]] = [
    *((f"{deed.__name__}, unread", deed, (("find",), 0, REFUSED)) for deed in READS),
    ("read, unread, cut off", read, (("find",), 0, CLOSED)),
    *((f"{deed.__name__}, second read", deed, (("find",), 1, REFUSED)) for deed in (merge, read, regenerate)),
    *((f"{deed.__name__}, unsaved", deed, (("update",), 0, UNCONFIRMED)) for deed in WRITES),
    ("regenerate, cut off", regenerate, (("update",), 0, CLOSED)),
    *((f"{deed.__name__}, by itself", deed, None) for deed in FAULTS),
]


# -- looking ----------------------------------------------------------------------------------------------------------


def errors_behind(error):
    """The error, and those that it came from."""
    seen, waiting = [], [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
    return seen


def frames_of(error, but):
    """Each frame that the error went through, but for those of one file."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != but:
            yield trace.tb_frame
        trace = trace.tb_next


def parts_of(value):
    """What a container or an object holds."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (tuple, list, set, frozenset)):
        return list(value)

    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    held = [getattr(value, name, None) for name in slots if isinstance(name, str) and name != "__dict__"]
    with contextlib.suppress(TypeError):
        held += vars(value).values()
    return held


def shows(value, secrets):
    """Whether the text of the value, or of one of its parts, has a secret in it; a request's environ is its own."""
    for part in (value, *([] if is_environ(value) else parts_of(value))):
        text = "" if is_environ(part) else repr(part)
        if any(secret in text for secret in secrets):
            return True
    return False


def is_environ(value):
    return isinstance(value, EnvironHeaders) or (isinstance(value, dict) and "wsgi.version" in value)


def found_in(error, secrets, but=__file__):
    """Where the secrets are, by function and variable; not in frames of this file, which knows them."""
    return sorted(
        {
            f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_name}:{name}"
            for one in errors_behind(error)
            for frame in frames_of(one, but)
            for name, value in frame.f_locals.items()
            if shows(value, secrets)
        }
        | {f"the message of {type(one).__name__}" for one in errors_behind(error) if shows(one.args, secrets)}
    )


class Slotted:
    __slots__ = ("held",)


class Plain:
    pass


def fail(secret):
    text, listed, mapped, plain, slotted = f"so {secret}", [secret], {"a": secret}, Plain(), Slotted()
    plain.held = slotted.held = secret
    environ = {"wsgi.version": 1, "HTTP_COOKIE": secret}
    harmless = len([text, listed, mapped, plain, slotted, environ])
    raise ValueError(f"{secret} {harmless}")


def test_the_search_finds_what_there_is():
    """Else the tests below would prove nothing: a secret in a variable, a container, an attribute, a slot."""
    with pytest.raises(ValueError) as raised:
        fail("precious")
    found = [place for place in found_in(raised.value, ["precious"], but=None) if "test_the_search" not in place]

    names = ("listed", "mapped", "plain", "secret", "slotted", "text")
    assert found == [*(f"test_raised_frames.py:fail:{name}" for name in names), "the message of ValueError"]


# -- raising ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch):
    """The new tokens that were made."""
    tokens, make = [], unit_of_work.new_token

    def new_token():
        tokens.append(make())
        return tokens[-1]

    monkeypatch.setattr(unit_of_work, "new_token", new_token)
    return tokens


class Errand:
    """What a request is to do, which secrets there are, and where they were found in what it raised."""

    def __init__(self):
        self.deed, self.other, self.secrets = None, {}, []
        self.raised, self.found = [], []

    def look_at(self, error):
        self.raised.append(error)
        self.found += found_in(error, self.secrets)


@pytest.fixture
def errand(made):
    """The errand of :func:`shop`."""
    errand = Errand()
    errand.secrets = made
    return errand


@pytest.fixture
def shop(make_shop, uri, errand):
    """An application that runs its errand, and looks at what was raised when it is told, as an error reporter does."""
    app = make_shop(uri)

    @app.get("/do")
    def do():
        errand.deed(errand.other)
        return "done"

    @app.errorhandler(Exception)
    def look(error):
        errand.look_at(error)
        return "sorry", getattr(error, "code", 500)

    return app


@pytest.fixture
def torn(shop, failing):
    """A browser with both tokens of a rotation that nobody answered, of which the second one is right."""
    browser = shop.test_client()
    browser.get("/write/cart/book")
    browser.get("/login/1")
    with failing("update", **UNCONFIRMED):
        browser.get("/renew")
    assert browser.get_cookie("session").value.count(".") == 4
    return browser


@pytest.fixture
def whole(shop):
    """A browser with an ordinary cookie."""
    browser = shop.test_client()
    browser.get("/write/cart/book")
    browser.get("/login/1")
    return browser


@pytest.mark.parametrize("kind", ["whole", "torn"])
@pytest.mark.parametrize(("deed", "failure"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_no_frame_holds_a_token(request, shop, failing, errand, *, kind, deed, failure):
    """Not the cookie's, not one that was just made, not another session's; nor does any message."""
    browser, other = request.getfixturevalue(kind), shop.test_client()
    other.get("/write/gift/wrapped")
    errand.deed, errand.other = deed, {"token": other.get("/token").text}
    errand.secrets += [*browser.get_cookie("session").value.split(".")[1:-2], errand.other["token"].partition(".")[2]]
    errand.raised, errand.found = [], []

    names, skipped, how = failure or ((), 0, {})
    breaking = failing(*names, mode={"skip": skipped} if skipped else "alwaysOn", **how)
    with breaking if failure else contextlib.nullcontext():
        status = browser.get("/do").status_code

    if status == 200:
        assert skipped  # there was no second read
        return
    assert errand.raised
    if failure:
        assert isinstance(errand.raised[-1], SessionStoreUnavailable)
    assert sorted(set(errand.found)) == []
