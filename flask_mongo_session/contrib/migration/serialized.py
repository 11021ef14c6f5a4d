"""What Flask-Session made of a session: MessagePack, JSON, and before 0.7 a pickle."""

from __future__ import annotations

import contextlib
import json
import pickle
import typing as t

from flask_mongo_session import SetupError

from .old_session import Unreadable

#: What unpickling may raise is anything; these are not for us.
_NOT_OURS = (KeyboardInterrupt, SystemExit)


def decoder(*, pickles: bool) -> t.Callable[[bytes], dict[t.Any, t.Any]]:
    """A function that turns stored bytes into the session, or raises :exc:`Unreadable`.

    A pickle can run any program when it is read: only with *pickles*. Raises :exc:`SetupError` without ``msgspec``.
    """
    try:
        import msgspec  # noqa: PLC0415 - only for those who migrate
    except ImportError as error:
        raise SetupError(
            "SESSION_MIGRATE_FROM = 'flask-session' needs the package 'msgspec', which Flask-Session 0.7 and later "
            "bring: pip install 'flask-mongoengine-session[migration]'"
        ) from error

    packed = msgspec.msgpack.Decoder()

    def decode(serialized: bytes) -> dict[t.Any, t.Any]:
        with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
            return _checked(packed.decode(serialized))
        with contextlib.suppress(ValueError, RecursionError):
            return _checked(json.loads(serialized))
        if not pickles:
            raise Unreadable("It is neither MessagePack nor JSON; pickles are read with SESSION_MIGRATE_PICKLE = True.")

        return _unpickled(serialized)

    return decode


def _unpickled(serialized: bytes) -> dict[t.Any, t.Any]:
    """For data that only the application itself wrote, which its author vouches for."""
    found: t.Any = None
    try:
        found = pickle.loads(serialized)  # noqa: S301 - asked for by SESSION_MIGRATE_PICKLE, with a warning
    except _NOT_OURS:
        raise
    except BaseException:  # noqa: BLE001, S110 - whatever it is, its message may hold a part of the session
        pass

    return _checked(found)


def _checked(found: t.Any) -> dict[t.Any, t.Any]:
    if not isinstance(found, dict):
        raise Unreadable("It is no dictionary.")

    return found
