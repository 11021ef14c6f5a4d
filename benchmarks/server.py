"""A MongoDB of the benchmarks' own, in a temporary folder, gone with them: one node, or a replica set of three."""

from __future__ import annotations

import contextlib
import tempfile
import typing as t
from pathlib import Path

from flask_mongo_session.testing import MongoServer, ReplicaSet

STANDALONE, REPLICA_SET = "standalone", "replica set"


class Server(t.NamedTuple):
    """Where it listens, and the process of each of its nodes."""

    uri: str
    pids: tuple[int, ...]


@contextlib.contextmanager
def running(kind: str = STANDALONE) -> t.Iterator[Server]:
    """The server as developers and tests get it: a cache of 0.25 GB for each node, the journal on."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-", ignore_cleanup_errors=True) as folder:
        server = ReplicaSet(Path(folder)) if kind == REPLICA_SET else MongoServer(Path(folder, "node"))
        try:
            uri = server.start()
            nodes = server.nodes if isinstance(server, ReplicaSet) else [server]
            yield Server(uri, tuple(node.pid for node in nodes))
        finally:
            server.close()
