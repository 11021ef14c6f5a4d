"""Says why a declared field refused a value: where, by which field and rule, and never the value.

The messages of MongoEngine, and of an application's own validators, quote values; the declaration does not.
"""

from __future__ import annotations

import enum
import typing as t

from mongoengine import EmbeddedDocument
from mongoengine.base import BaseField
from mongoengine.errors import ValidationError

from . import codec

#: What a declaration says about values, in the words of a message.
_RULES = {
    "choices": "one of {}",
    "min_value": "at least {}",
    "max_value": "at most {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "max_bytes": "at most {} bytes long",
    "regex": "matched by {}",
    "schemes": "of one of the schemes {}",
    "validation": "accepted by {}",
}
#: Longest rule that a message repeats, in characters.
_LONGEST_RULE = 200


def describe(key: str, field: BaseField, value: t.Any, error: Exception) -> str:
    """What the field did, as the rest of a sentence: ``refused a value of type …: it must be at most 5 long``."""
    path, culprit, part = _culprit(field, value, error)
    kind = type(part)
    where = f" at {key}{path} ({type(culprit).__name__})" if path else ""
    why = "" if isinstance(error, ValidationError) else f" with {type(error).__name__}"

    return f"refused a value of type {kind.__module__}.{kind.__qualname__}{where}{why}{_rules(culprit)}"


def _rules(field: BaseField | None) -> str:
    """What the declaration demands: ``: it must be at least 0, at most 10``."""
    rules = ((words, getattr(field, name, None)) for name, words in _RULES.items())
    demands = [words.format(_rule(rule)) for words, rule in rules if rule not in (None, [])]

    return f": it must be {', '.join(demands)}" if demands else ""


def _rule(rule: t.Any) -> str:
    if isinstance(rule, (list, tuple, set, frozenset)):
        text = ", ".join(_rule(one[0] if isinstance(one, (list, tuple)) else one) for one in rule)
    elif isinstance(rule, enum.Enum):
        text = f"{type(rule).__name__}.{rule.name}"
    elif hasattr(rule, "pattern"):
        text = repr(rule.pattern)
    else:
        text = getattr(rule, "__qualname__", None) or repr(rule)

    return text if len(text) <= _LONGEST_RULE else f"{text[:_LONGEST_RULE]}…"


def _culprit(field: BaseField | None, value: t.Any, error: t.Any) -> tuple[str, BaseField | None, t.Any]:
    """The innermost part that was refused, by MongoEngine's nested errors: its path, its field, itself."""
    errors = error.errors if isinstance(error, ValidationError) else error
    if not isinstance(errors, dict) or not errors:
        return "", field, value

    key, inner = next(iter(errors.items()))
    try:
        part_of, part = _part(field, value, key)
    except (LookupError, TypeError, AttributeError):
        return "", field, value

    path, field, value = _culprit(part_of, part, inner)
    return (f"[{key}]" if isinstance(key, int) else codec.step(key)) + path, field, value


def _part(field: BaseField | None, value: t.Any, key: t.Any) -> tuple[BaseField | None, t.Any]:
    if isinstance(value, EmbeddedDocument):
        return value._fields[key], value._data[key]  # noqa: SLF001 - without following references

    return getattr(field, "field", None), value[key]
