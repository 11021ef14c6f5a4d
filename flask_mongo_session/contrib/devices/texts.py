"""Texts in the visitor's language: through Flask-Babel where the application uses it, else in English."""

from __future__ import annotations

import datetime as dt
import gettext
import typing as t
from pathlib import Path

from flask import current_app

_DOMAIN = "flask_mongo_session"
_OURS = str(Path(__file__).parent / "translations")


def noted(text: str) -> str:
    """Marks a text for the translators that is only said later."""
    return text


def noted_many(one: str, many: str) -> tuple[str, str]:
    """The same for a text that counts."""
    return one, many


def say(text: str, **values: t.Any) -> str:
    """*text* in the visitor's language, its ``%(name)s`` filled in."""
    translated = t.cast("str", _domain().gettext(text)) if _is_translated() else text
    return translated % values if values else translated


def say_many(one: str, many: str, count: int) -> str:
    """The text for *count* things, ``%(count)d`` filled in."""
    if _is_translated():
        return t.cast("str", _domain().ngettext(one, many, count, count=count))

    return (one if count == 1 else many) % {"count": count}


def language() -> str:
    """The language of these texts, as HTML has it: ``"en"``, also where there is no catalogue for the visitor's."""
    if not _is_translated():
        return "en"

    from flask_babel import get_locale  # noqa: PLC0415 - the application has it

    locale = str(get_locale() or "en")
    found = any(gettext.find(_DOMAIN, folder, [locale]) for folder in _domain().translation_directories)
    return locale.replace("_", "-") if found else "en"


def say_moment(moment: dt.datetime) -> str:
    """A date with its time: in the visitor's language and time zone, else in UTC, which it says."""
    if not _is_translated():
        return f"{moment:%d %B %Y, %H:%M} UTC"

    from flask_babel import format_date, format_time  # noqa: PLC0415 - the application has it

    return f"{format_date(moment, 'long')}, {format_time(moment, 'HH:mm z')}"


def _is_translated() -> bool:
    return bool(current_app) and "babel" in current_app.extensions


def _domain() -> t.Any:
    """Our catalogues, and what the application's own folders of translations have for the same domain."""
    domain = current_app.extensions.get(_DOMAIN)
    if domain is None:
        from flask_babel import Domain, get_babel  # noqa: PLC0415 - the application has it

        folders = [_OURS, *get_babel().translation_directories]
        domain = current_app.extensions[_DOMAIN] = Domain(folders, _DOMAIN)
    return domain
