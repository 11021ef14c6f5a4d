"""Where to go after a form."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request, url_for


def asked_for(default: str) -> str:
    """The address in ``?next=`` when it is one of ours, else that of the endpoint ``default``."""
    target = request.args.get("next", "")

    return target if is_ours(target) else url_for(default)


def is_ours(target: str) -> bool:
    """Whether ``target`` is a plain path: no host, no scheme, nothing that a browser may read as one."""
    parts = urlsplit(target) if target.isprintable() else None

    return (
        parts is not None
        and target.startswith("/")
        and not target.startswith("//")
        and "\\" not in target
        and not parts.netloc
        and not parts.scheme
    )
