"""A ``mongod`` of the benchmarks' own, in a temporary folder, gone with them."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import typing as t
from pathlib import Path

from flask_mongo_session.embedded.server import EmbeddedServer


class Server(t.NamedTuple):
    uri: str
    pid: int


@contextlib.contextmanager
def running() -> t.Iterator[Server]:
    """The embedded server as developers get it: a cache of 0.25 GB, the journal on."""
    folder = Path(tempfile.gettempdir(), f"benchmarks-{secrets.token_hex(4)}")
    server = EmbeddedServer(folder, temporary=True)
    try:
        uri = server.start()
        yield Server(uri, t.cast("int", server.pid))
    finally:
        server.release()
