"""Folders and files that belong to this user alone: made, opened and checked.

Other users of the machine cannot put anything into a folder with mode 0700, but they may have done so before it was
closed, or have made the folder themselves. Therefore the folder, the way to it and its contents are checked before
they are used.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import typing as t
from pathlib import Path

from flask_mongo_session.exceptions import EmbeddedServerError

from .supervisor import open_plain

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ROOT = 0


def make_private_folder(folder: Path) -> None:
    """Make *folder* with mode 0700, or check the one that is there.

    Raises :class:`.EmbeddedServerError` where it is a symlink, belongs to somebody else, is open to others, or where
    others may replace it; :class:`OSError` where it cannot be made.
    """
    check_way(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_way(folder)  # again: a stranger may have made what was missing on it
    status = folder.lstat()
    _check(folder, status, fix="Name the folder itself")
    if status.st_mode & _OTHERS:
        _refuse(
            folder, f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})", f"Run `chmod 700 {_quoted(folder)}`"
        )


def check_way(path: Path) -> None:
    """Raise :class:`.EmbeddedServerError` where other users may replace *path* or a folder or symlink on the way to it.

    They may where a folder is writable by everybody: with the sticky bit, as ``/tmp`` has it, what they own themselves;
    without it, everything. What does not exist yet is passed over.
    """
    for place in (path, *path.parents[:-1]):
        with contextlib.suppress(OSError):  # what cannot be looked at cannot be opened later either
            _check_place(place)


def _check_place(place: Path) -> None:
    above = place.parent.stat()
    if above.st_mode & stat.S_IWOTH:
        if not above.st_mode & stat.S_ISVTX:
            _refuse(place.parent, "is writable by everybody", f"Run `chmod o-w {_quoted(place.parent)}`")
        _check_owner(place, place.lstat(), trusted=(os.geteuid(), _ROOT))

    if place.is_symlink() and place.exists():  # a circle of symlinks does not exist
        check_way(Path(os.path.normpath(place.parent.resolve() / place.readlink())))


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the file *path*; a new one has mode 0600.

    Raises :class:`.EmbeddedServerError` where it is a symlink, no regular file, or not this user's alone;
    :class:`OSError` where it cannot be opened.
    """
    with contextlib.suppress(FileNotFoundError):
        check_file(path, path.lstat())
    descriptor = open_plain(path, flags)
    try:
        check_file(path, os.fstat(descriptor))
    except EmbeddedServerError:
        os.close(descriptor)
        raise

    return descriptor


def check_contents(folder: Path) -> None:
    """Raise :class:`.EmbeddedServerError` for anything below *folder* that :func:`check_file` refuses."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            with contextlib.suppress(FileNotFoundError):  # a server that is just ending removes files
                check_file(path, path.lstat(), may_be_folder=True)


def check_file(path: Path, status: os.stat_result, *, may_be_folder: bool = False) -> None:
    """Raise :class:`.EmbeddedServerError` unless *status* is that of a regular file of this user alone.

    It must be closed to others and have one name: a symlink or a second hard link leads to a file that lies elsewhere.
    """
    _check(path, status, fix="Remove it")
    is_file = stat.S_ISREG(status.st_mode)
    if not is_file and not (may_be_folder and stat.S_ISDIR(status.st_mode)):
        _refuse(path, "is no regular file", "Remove it")
    if is_file and status.st_nlink > 1:
        _refuse(path, "has a second name elsewhere (a hard link)", "Remove it")
    if status.st_mode & _OTHERS:
        _refuse(
            path, f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})", f"Run `chmod -R go= {_quoted(path)}`"
        )


def _check(path: Path, status: os.stat_result, *, fix: str) -> None:
    if stat.S_ISLNK(status.st_mode):
        _refuse(path, "is a symlink", fix)
    _check_owner(path, status, trusted=(os.geteuid(),))


def _check_owner(path: Path, status: os.stat_result, *, trusted: t.Container[int]) -> None:
    if status.st_uid not in trusted:
        _refuse(path, f"belongs to user {status.st_uid}", "Remove it")


def _refuse(path: Path, reason: str, fix: str) -> t.NoReturn:
    raise EmbeddedServerError(f"'{path}' is not yours alone: it {reason}. {fix}, or use another folder.")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
