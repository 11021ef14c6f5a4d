"""What the doctor says."""

from __future__ import annotations

import typing as t

OK, NOTE, WRONG = "ok", "note", "wrong"


class Finding(t.NamedTuple):
    """One thing that was looked at: its name, ``"ok"``, ``"note"`` or ``"wrong"``, and what was seen."""

    name: str
    verdict: str
    message: str


Result = tuple[str, str, str]
