"""The secret key that survives a restart, and the headers that every page carries."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from flask import Flask, Response, request

from .errors import STYLE_HASH

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'self' '{STYLE_HASH}'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def init_app(app: Flask) -> None:
    """Send the headers with every response."""
    app.after_request(secured)


def secured(response: Response) -> Response:
    """Add the headers; a page, unlike a static file, is one visitor's own and kept by no cache."""
    response.headers.update(HEADERS)

    if not (request.endpoint or "").endswith("static"):
        response.headers.setdefault("Cache-Control", "no-store")

    return response


def kept_secret_key(folder: Path) -> str:
    """The key in ``folder/secret_key``, readable by its owner alone; made on the first call."""
    path = folder / "secret_key"

    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        publish(secrets.token_hex(32), path)

    return path.read_text(encoding="ascii").strip()


def publish(text: str, path: Path) -> None:
    """Write ``path`` in one step; whoever comes second, the other worker or the reloader, leaves the first one's."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".secret_key")

    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")

    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
