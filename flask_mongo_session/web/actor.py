"""Who is at work, as far as the surroundings tell: the visitor of a request, or who typed a command."""

from __future__ import annotations

import contextlib
import os
import socket

import click
from flask import has_request_context, request, session

from flask_mongo_session.exceptions import MongoSessionError
from flask_mongo_session.session.session import ServerSideSession, current_user_id
from flask_mongo_session.storage.audit import Actor

from .client_info import client_info


def current_actor(name: str | None = None, *, whole_address: bool = False) -> Actor:
    """The actor, called *name* where the application says so; never raises.

    Of a request's address only the network is kept, unless the *whole* of it is wanted.
    """
    if has_request_context():
        return Actor(name or _visitor(), "request", client_info(request, truncate=not whole_address).get("ip"))
    if click.get_current_context(silent=True) is not None:
        return Actor(name or _account(), "command", socket.gethostname())

    return Actor(name, "code", socket.gethostname())


def _visitor() -> str | None:
    """Who is logged in; nobody where that cannot be found out."""
    if isinstance(session._get_current_object(), ServerSideSession):  # type: ignore[attr-defined]  # noqa: SLF001 - what is behind the proxy
        with contextlib.suppress(MongoSessionError):
            return current_user_id(session)

    return None


def _account() -> str:
    """The account of the operating system, by its number: an environment variable may say anything."""
    try:
        from pwd import getpwuid  # noqa: PLC0415 - not on every system

        name = getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        name = f"uid {os.getuid()}" if hasattr(os, "getuid") else "somebody"

    behind = os.environ.get("SUDO_USER")
    return f"{name} (sudo by {behind})" if behind else name
