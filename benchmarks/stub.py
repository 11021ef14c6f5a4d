"""A MongoDB client without MongoDB: canned answers to the driver's calls, so that what remains is the caller's cost.

The classes are the driver's own, with the calls replaced that would send a command: :class:`StubClient` passes for a
``pymongo.MongoClient``. Whatever is inserted can be found by its ``_id``; an update always matches and changes
nothing, so that a request can be repeated. Any other command fails, since nobody listens.
"""

from __future__ import annotations

import typing as t

import bson
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.results import DeleteResult, InsertOneResult, UpdateResult

from benchmarks.content import now

#: Records that are remembered, the newest; and milliseconds until a call that is not stubbed fails.
_KEPT, _PATIENCE = 2_000, 100
_UPDATED = UpdateResult({"n": 1, "nModified": 1, "ok": 1.0}, acknowledged=True)
_DELETED = DeleteResult({"n": 1, "ok": 1.0}, acknowledged=True)
_DONE = {"n": 1, "nModified": 1, "ok": 1.0}


class StubClient(MongoClient[dict[str, t.Any]]):
    """Remembers what was inserted; its databases are :class:`StubDatabase`."""

    primary = ("stub", 27017)

    def __init__(self) -> None:
        super().__init__("mongodb://127.0.0.1:1", connect=False, serverSelectionTimeoutMS=_PATIENCE)
        self.records: dict[str, dict[str, t.Any]] = {}
        self.decoded: dict[str, tuple[t.Any, dict[str, t.Any]]] = {}

    @property
    def topology_description(self) -> t.Any:
        """Says that there is a server."""
        return _Reachable

    def __getitem__(self, name: str) -> StubDatabase:
        return StubDatabase(self, name)

    def get_database(self, name: str | None = None, *options: t.Any, **more: t.Any) -> StubDatabase:
        return StubDatabase(self, name or "benchmarks", *options, **more)

    get_default_database = get_database

    def keep(self, record: t.Any) -> None:
        self.records[record["_id"]] = record
        if len(self.records) > _KEPT:
            oldest = next(iter(self.records))
            del self.records[oldest]
            self.decoded.pop(oldest, None)

    def find(self, chosen: t.Any, codec_options: t.Any) -> dict[str, t.Any] | None:
        """The record, in objects as the driver makes them; a copy that may be changed at its two upper levels."""
        sid = chosen["_id"]
        known = self.decoded.get(sid)
        if known is None or known[0] is not codec_options:
            if sid not in self.records:
                return None
            known = self.decoded[sid] = (codec_options, bson.decode(bson.encode(self.records[sid]), codec_options))
        return {**known[1], "data": {**known[1]["data"]}}


class _Reachable:
    @staticmethod
    def has_writable_server() -> bool:
        return True


class StubDatabase(Database[dict[str, t.Any]]):
    """Answers the commands that reading a session takes."""

    def __getitem__(self, name: str) -> StubCollection:
        return StubCollection(self, name)

    def get_collection(self, name: str, *options: t.Any, **more: t.Any) -> StubCollection:
        return StubCollection(self, name, False, *options, **more)

    def with_options(self, *options: t.Any, **more: t.Any) -> StubDatabase:
        return StubDatabase(self.client, self.name, *options, **more)

    def command(
        self, command: t.Any, *_args: t.Any, codec_options: t.Any = None, **_options: t.Any
    ) -> dict[str, t.Any]:
        if "find" in command:
            found = self.client.find(command["filter"], codec_options or self.codec_options)
            return {"cursor": {"firstBatch": [] if found is None else [found], "id": 0}, "ok": 1.0}
        if "hello" in command:
            return {"isWritablePrimary": True, "localTime": now(), "ok": 1.0}
        if "update" in command or "insert" in command:
            return _DONE
        raise NotImplementedError(f"The stub does not answer {command!r}.")


class StubCollection(Collection[dict[str, t.Any]]):
    """Answers the calls that keeping a session takes."""

    def with_options(self, *options: t.Any, **more: t.Any) -> StubCollection:
        return StubCollection(self.database, self.name, False, *options, **more)

    def find_one(self, chosen: t.Any = None, *_args: t.Any, **_options: t.Any) -> t.Any:
        return self.database.client.find(chosen, self.codec_options)

    def find_one_and_update(self, chosen: t.Any, *_args: t.Any, **_options: t.Any) -> t.Any:
        return self.database.client.find(chosen, self.codec_options)

    def insert_one(self, record: t.Any, *_args: t.Any, **_options: t.Any) -> InsertOneResult:
        self.database.client.keep(record)
        return InsertOneResult(record["_id"], acknowledged=True)

    def update_one(self, *_args: t.Any, **_options: t.Any) -> UpdateResult:
        return _UPDATED

    def replace_one(self, *_args: t.Any, **_options: t.Any) -> UpdateResult:
        return _UPDATED

    def delete_one(self, *_args: t.Any, **_options: t.Any) -> DeleteResult:
        return _DELETED

    def create_indexes(self, indexes: t.Any, *_args: t.Any, **_options: t.Any) -> list[str]:
        return [index.document["name"] for index in indexes]
