"""Folders and files that belong to one user alone; what other users can try is in test_second_user.py."""

import os
import socket

import pytest

from flask_mongo_session.embedded.private import check_contents, make_private_folder, open_private
from flask_mongo_session.embedded.server import embedded_server
from flask_mongo_session.exceptions import EmbeddedServerError

if os.name != "posix":
    pytest.skip("an embedded server needs Linux or macOS", allow_module_level=True)


@pytest.fixture
def folder(tmp_path):
    """A private folder."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def test_a_new_folder_is_closed_to_others(tmp_path):
    """Folders above it are made as usual."""
    make_private_folder(tmp_path / "above" / "data")

    assert (tmp_path / "above" / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o710])
def test_an_open_folder_is_refused_and_left_as_it_is(folder, mode):
    """The error names the mode and the command that closes it; whether to trust the contents is the user's decision."""
    folder.chmod(mode)

    with pytest.raises(EmbeddedServerError, match=rf"open to others \(mode {mode:04o}\). Run `chmod 700 {folder}`"):
        embedded_server(f"embedded:{folder}")
    assert folder.stat().st_mode & 0o777 == mode
    assert list(folder.iterdir()) == []


def test_the_command_in_the_error_can_be_pasted(tmp_path):
    """A name with blanks is quoted."""
    (tmp_path / "my data").mkdir()

    with pytest.raises(EmbeddedServerError, match=f"`chmod 700 '{tmp_path}/my data'`"):
        make_private_folder(tmp_path / "my data")


@pytest.mark.parametrize("name", ["link", "./x/../link"])
def test_a_folder_behind_a_symlink_is_named_itself(folder, monkeypatch, name):
    """A symlink of one's own is refused, too: it is the folder that is checked, locked and shared."""
    monkeypatch.chdir(folder.parent)
    (folder.parent / "link").symlink_to(folder)

    with pytest.raises(EmbeddedServerError, match=r"is a symlink\. Name the folder itself"):
        embedded_server(f"embedded:{name}")
    assert list(folder.iterdir()) == []


def test_symlinks_of_ones_own_on_the_way_are_followed(folder):
    """A project may lie behind a symlink."""
    (folder.parent / "link").symlink_to(folder)
    server = embedded_server(f"embedded:{folder.parent / 'link' / 'deep'}")
    server.release()

    assert server.folder == folder / "deep"


def test_a_circle_of_symlinks_is_an_error(tmp_path):
    """It is no folder, and nobody runs in circles."""
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")

    with pytest.raises(EmbeddedServerError):
        embedded_server(f"embedded:{tmp_path / 'one'}")
    with pytest.raises((EmbeddedServerError, OSError, RuntimeError)):
        embedded_server(f"embedded:{tmp_path / 'one' / 'data'}")


def test_a_new_file_is_closed_to_others(folder):
    """Whatever the umask says."""
    mask = os.umask(0)
    try:
        os.close(open_private(folder / "file", os.O_RDWR | os.O_CREAT))
    finally:
        os.umask(mask)

    assert (folder / "file").stat().st_mode & 0o777 == 0o600


def plant(kind, path):
    """Something of our own that is not a private file."""
    if kind == "open":
        path.touch()
        path.chmod(0o640)
    elif kind == "linked":
        path.touch(0o600)
        path.with_name("second").hardlink_to(path)
    elif kind == "symlink":
        path.symlink_to(path.with_name("elsewhere"))
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
        path.chmod(0o600)


REASONS = {
    "open": r"is open to others \(mode 0640\). Run `chmod -R go= ",
    "linked": "has a second name elsewhere",
    "symlink": "is a symlink",
    "pipe": "is no regular file",
    "socket": "is no regular file",
}


@pytest.mark.parametrize("kind", REASONS)
def test_other_files_are_not_opened(folder, kind):
    """The error says why; opening a pipe does not wait for its other end."""
    plant(kind, folder / "file")

    with pytest.raises(EmbeddedServerError, match=f"'{folder / 'file'}' .*{REASONS[kind]}"):
        open_private(folder / "file", os.O_RDWR | os.O_CREAT)
    assert not (folder / "elsewhere").exists()


@pytest.mark.parametrize("kind", REASONS)
def test_the_contents_are_checked_at_any_depth(folder, kind):
    """A journal's folder counts as much as the folder itself."""
    (folder / "journal").mkdir(mode=0o700)
    (folder / "journal" / "fine").touch(0o600)
    check_contents(folder)
    plant(kind, folder / "journal" / "file")

    with pytest.raises(EmbeddedServerError, match=REASONS[kind]):
        check_contents(folder)


def test_a_file_that_is_not_there_is_an_os_error(folder):
    """As with open()."""
    with pytest.raises(FileNotFoundError):
        open_private(folder / "file", os.O_RDONLY)
