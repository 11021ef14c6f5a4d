"""The names of devices, as the list shows them and the search understands them."""

from __future__ import annotations

import re
import time
import typing as t

try:
    from flask_mongo_session.contrib.devices.names import device_name
except ImportError:  # without the extra [devices] the raw header has to do

    def device_name(user_agent: str | None) -> str:  # type: ignore[misc]  # the other one caches
        """The header itself."""
        return (user_agent or "Unknown device")[:80]


__all__ = ["device_name", "headers_named"]

#: Kinds of headers that no search has met before: one search parses so many, and goes on for so many seconds. A parser
#: in pure Python takes 1 ms for each.
_LEAST_PARSED = 100
_PARSING_SECONDS = 0.12
#: Shapes of headers that are remembered.
_MOST_SHAPES = 20_000

_names: dict[str, str] = {}


def headers_named(headers: t.Iterable[str], part: str) -> tuple[list[str], bool]:
    """Those of *headers* whose device name contains *part*, and whether there was time to name all of them.

    Headers that differ in digits alone, which are versions nearly always, are parsed once for all, and only by the
    first search of this process: the next one goes on where this one stopped.
    """
    wanted, budget = part.casefold(), _Budget()
    found, complete = [], True
    for header in headers:
        name = _name_of_shape(header, budget)
        if name is None:
            complete = False
        elif wanted in name:
            found.append(header)

    return found, complete


class _Budget:
    """How much one search may still parse."""

    def __init__(self) -> None:
        device_name("-")  # the first call loads the parser's tables
        self._deadline = time.monotonic() + _PARSING_SECONDS
        self._parsed = 0

    def spend(self) -> bool:
        """Whether one more header may be parsed."""
        self._parsed += 1
        return self._parsed <= _LEAST_PARSED or time.monotonic() < self._deadline


def _name_of_shape(header: str, budget: _Budget) -> str | None:
    shape = re.sub(r"\d+", "0", header)
    name = _names.get(shape)
    if name is not None or not budget.spend():
        return name

    if len(_names) >= _MOST_SHAPES:
        _names.clear()
    name = _names[shape] = device_name(header).casefold()
    return name
