"""The password of a folder's server: made once, kept in the folder, asked for by the server.

``mongod`` reads it as its key file, so it appears on no command line and in no environment. Whoever knows a key
may log in as its internal user, ``__system``, which makes the application's user. The exception that MongoDB makes for
loopback connections to a server without users is off, so no moment exists in which somebody else can make one.
Client and server prove to each other with SCRAM that they know the password: a stranger who listens on the port of a
server that has ended learns nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import typing as t
from pathlib import Path

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from .private import open_private

Client = pymongo.MongoClient[dict[str, t.Any]]

_FILE = "password"
#: The application's user, in the database ``admin``.
USER = "flask"
_LOGIN, _INTERNAL_LOGIN = (USER, "admin"), ("__system", "local")
_MECHANISM = "SCRAM-SHA-256"
#: What the user may do: a developer's database has one user, who is its administrator.
_RIGHTS = {"roles": ["root"], "mechanisms": [_MECHANISM]}
_ALREADY_EXISTS = 51003
#: Seconds that a server may take to answer.
_TIMEOUT = 1.0


def options(folder: Path) -> tuple[str, ...]:
    """What makes ``mongod`` ask for the password of *folder*.

    Few iterations of SCRAM make connections cheaper. Many would slow down the guessing of a weak password; this one has
    256 random bits.
    """
    parameters = ("enableLocalhostAuthBypass=false", "scramSHA256IterationCount=5000", "scramIterationCount=5000")
    return ("--keyFile", str(folder / _FILE), *(word for each in parameters for word in ("--setParameter", each)))


def new_password() -> str:
    """256 random bits in hexadecimal: fit for a key file and for a URI."""
    return secrets.token_hex(32)


def keep_password(folder: Path, password: str | None = None) -> None:
    """Write *password* to *folder*, a new one if there is neither; for who starts the server, alone.

    A crash leaves the old one, the new one, or none.
    """
    if password is None and read_password(folder):
        return

    part = folder / f"{_FILE}.new"
    part.unlink(missing_ok=True)
    descriptor = open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(descriptor, (password or new_password()).encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(folder / _FILE)


def read_password(folder: Path) -> str | None:
    """The password that *folder* keeps, or ``None`` where there is none, or a damaged one."""
    try:
        descriptor = open_private(folder / _FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None

    try:
        text = os.read(descriptor, 1024)
    finally:
        os.close(descriptor)
    return text.decode() if re.fullmatch(rb"[0-9a-f]{64}", text) else None


def server_uri(addresses: t.Iterable[str], password: str | None, option: str) -> str:
    """A connection string for the application's user."""
    login = f"{USER}:{password}@" if password else ""
    how = f"&authSource={_LOGIN[1]}&authMechanism={_MECHANISM}" if password else ""
    return f"mongodb://{login}{','.join(addresses)}/?{option}{how}"


def internal_client(port: int, password: str | None, timeout: float = _TIMEOUT) -> Client:
    """A client with all rights, also where there is no user yet; *timeout* in seconds."""
    return _client(port, password, _INTERNAL_LOGIN, timeout)


def make_user(client: Client, password: str) -> None:
    """Give the server its user, or the one that it has this password; other members of its set may know it later.

    *client* is an internal one. Raises what pymongo raises.
    """
    user: dict[str, t.Any] = {"pwd": password, **_RIGHTS, "writeConcern": {"w": 1}}
    try:
        client.admin.command("createUser", USER, **user)
    except OperationFailure as error:
        if error.code != _ALREADY_EXISTS:
            raise
        client.admin.command("updateUser", USER, **user)


def is_ours(port: int, password: str) -> bool:
    """Whether the server on *port* answers and knows the password."""
    with contextlib.suppress(PyMongoError), internal_client(port, password) as client:
        return bool(client.admin.command("ping")["ok"])
    return False


def lets_in(port: int, password: str) -> bool:
    """Whether the server on *port* answers, knows the password and has the user, who is made where there is none."""
    with contextlib.suppress(PyMongoError), _client(port, password, _LOGIN) as client:
        return bool(client.admin.command("ping")["ok"])

    with contextlib.suppress(PyMongoError), internal_client(port, password) as client:
        make_user(client, password)
        return True
    return False


def _client(port: int, password: str | None, user: tuple[str, str], timeout: float = _TIMEOUT) -> Client:
    limit = int(timeout * 1000)
    limits: dict[str, t.Any] = {"serverSelectionTimeoutMS": limit, "connectTimeoutMS": limit, "socketTimeoutMS": limit}
    login = {"username": user[0], "password": password, "authSource": user[1], "authMechanism": _MECHANISM}
    options = {**limits, **(login if password else {})}
    return pymongo.MongoClient("127.0.0.1", port, directConnection=True, **options)
