"""Asking a server again, punctually: which errors are worth another try, and waiting for a server to talk to."""

from __future__ import annotations

import contextlib
import time
import typing as t

import pymongo
from bson.codec_options import CodecOptions
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from .bson_types import CODEC_OPTIONS
from .reason import seeds, unreachable

Client = pymongo.MongoClient[dict[str, t.Any]]

#: Seconds that the driver may wait for a server beyond its time limit, and between two looks of our own.
_OVERTIME, _POLL = 0.5, 0.02
#: Errors of a server, beside a lost connection and a change of primary, after which a read is worth another try; those
#: of the specification that all drivers follow ("Retryable Reads").
_TRANSIENT = frozenset({6, 7, 89, 134, 262, 9001})

_Answer = t.TypeVar("_Answer")


def retry(client: Client, ask: t.Callable[[], _Answer], until: float, error: PyMongoError) -> _Answer:
    """What *ask* returns when asked again after a transient *error*, until the monotonic time *until*.

    As the driver does with its own reads. Raises *error*, or the last one, when another try makes no sense.
    """
    pause = _POLL
    while is_transient(error) and time.monotonic() < until:
        await_server(client, until)
        try:
            return ask()
        except PyMongoError as again:
            error = again
        time.sleep(min(pause, max(until - time.monotonic(), 0.0)))
        pause *= 2

    raise error


def await_server(client: Client, until: float) -> None:
    """Return when there is a server to talk to; raises :exc:`ServerSelectionTimeoutError` punctually.

    The driver alone looks for half a second longer than it was told to.
    """
    if client.topology_description.has_writable_server():
        return

    left = until - time.monotonic()
    try:
        with contextlib.suppress(ConnectionFailure), pymongo.timeout(max(left - _OVERTIME, _POLL)):
            hello(client)
    except ConfigurationError as error:  # names behind an SRV address are asked for now
        raise ServerSelectionTimeoutError(f"{seeds(client)}: {error}") from error
    while not client.topology_description.has_writable_server():
        if time.monotonic() >= until:
            raise ServerSelectionTimeoutError(unreachable(client))
        time.sleep(_POLL)


def is_transient(error: PyMongoError) -> bool:
    """Whether another try may find a server that answers; where none could be selected, the time is used up."""
    if isinstance(error, AutoReconnect):
        return not isinstance(error, ServerSelectionTimeoutError)

    return isinstance(error, OperationFailure) and error.code in _TRANSIENT


def hello(client: Client) -> dict[str, t.Any]:
    """The server's answer to ``hello``, its ``localTime`` aware."""
    return client.admin.command("hello", codec_options=t.cast("CodecOptions[t.Any]", CODEC_OPTIONS))
