"""Taking over another session: which one, and what of it."""

from __future__ import annotations

import dataclasses
import typing as t

from flask_mongo_session.document.mapper import DocumentMapper
from flask_mongo_session.document.record import Document, SessionInfo
from flask_mongo_session.document.standing import Standing
from flask_mongo_session.signals import session_loaded
from flask_mongo_session.storage.repository import Found, is_id

from .state import token_hash


class Finder(t.Protocol):
    """Whatever finds records by their cookie's parts."""

    def find(self, sid: str, token: bytes) -> Found:
        """The record and its standing."""

    def loaded(self, found: Found) -> None:
        """Be told that a session was found alive."""


@dataclasses.dataclass
class Merge:
    """A session that is being taken over, as it was read last."""

    record: Document
    token: bytes
    #: Whether its user is taken over, too.
    brings_user: bool = False

    @property
    def info(self) -> SessionInfo:
        """The session without what is in it."""
        return SessionInfo.of(self.record)

    def everything(self, mapper: DocumentMapper) -> dict[str, t.Any]:
        """All of its values, encoded."""
        sid = self.record["_id"]
        return {key: mapper.open(sid, key, value) for key, value in mapper.gather(self.record).items()}

    def news(self, mapper: DocumentMapper, latest: Document) -> dict[str, t.Any]:
        """What is in its *latest* record and was not there before, encoded; it counts as read from now on."""
        before, self.record = mapper.gather(self.record), latest
        return {key: value for key, value in self.everything(mapper).items() if before.get(key) != value}


def parse(token: object) -> tuple[str, bytes] | None:
    """The id and the hashed secret in a session's *token* (``id.secret``); anything goes in."""
    sid, _, secret = token.partition(".") if isinstance(token, str) else ("", "", "")
    return (sid, token_hash(secret)) if is_id(sid) and secret else None


def find_other(sid: str, hashed: bytes, finder: Finder) -> Merge | None:
    """The live session that a token belongs to."""
    found = finder.find(sid, hashed)
    if found.standing is not Standing.LIVE or found.record is None:
        return None

    if session_loaded.receivers:
        finder.loaded(found)
    return Merge(found.record, hashed)
