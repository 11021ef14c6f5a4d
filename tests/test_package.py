"""What the distribution promises: the exported names, one version, types, and all files in the wheel."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import flask_mongo_session

PACKAGE = Path(flask_mongo_session.__file__).parent
CHECKOUT = PACKAGE.parent

PUBLIC = [
    "ConfigurationError",
    "ConfigurationTypeError",
    "EmbeddedServerError",
    "EncryptionUnsupported",
    "Figures",
    "InvalidFieldValue",
    "ModelError",
    "MongoSession",
    "MongoSessionError",
    "MongoSessionInterface",
    "MongoSessionState",
    "MongoSessionStore",
    "ServerSideSession",
    "Session",
    "SessionDocument",
    "SessionInfo",
    "SessionQuerySet",
    "SessionStatus",
    "SessionStoreUnavailable",
    "SessionTooLarge",
    "SetupError",
    "StoredSession",
    "TooManySessions",
    "UnstorableValue",
    "current_session",
    "current_user_id",
    "fresh_session",
    "new_session_id",
    "session_created",
    "session_destroyed",
    "session_loaded",
    "session_regenerated",
    "session_rejected",
    "session_updated",
    "sessions_swept",
    "typed_session",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of all files in a wheel made of this checkout."""
    if not (CHECKOUT / "setup.py").is_file():
        pytest.skip("needs a checkout: the package under test is an installed one")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(target.glob("*.whl"))) as archive:
        return archive.namelist()


def test_the_public_names_are_these():
    """What users may rely on changes only together with this list, and each of the names is there."""
    assert flask_mongo_session.__all__ == PUBLIC
    assert all(hasattr(flask_mongo_session, name) for name in PUBLIC)


def test_the_version_is_a_release_number():
    """`__version__` is the one place that knows the version."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", flask_mongo_session.__version__)


def test_the_installed_metadata_tell_the_same_version():
    """What pip shows is what the package says."""
    try:
        installed = importlib.metadata.version("flask-mongoengine-session")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from a folder, not installed")

    assert installed == flask_mongo_session.__version__


def test_type_checkers_find_the_types():
    """`py.typed` lies in the package."""
    assert (PACKAGE / "py.typed").is_file()


def test_the_wheel_holds_every_file_of_the_package(wheel):
    """Code, `py.typed`, and the templates and static files of the optional parts."""
    files = {path.relative_to(CHECKOUT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}

    assert {name for name in files if "__pycache__" not in name} <= set(wheel)


def test_the_wheel_holds_nothing_else(wheel):
    """No tests, no example, no benchmarks in a user's site-packages."""
    assert {name.partition("/")[0] for name in wheel} == {
        "flask_mongo_session",
        f"flask_mongoengine_session-{flask_mongo_session.__version__}.dist-info",
    }


def test_another_distribution_in_the_same_folder_is_named(tmp_path):
    """PyPI has a package of the same import name; installed over each other, both are broken in ways hard to tell."""
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / PACKAGE.name / "session_processor.py").touch()

    command = [sys.executable, "-c", "import flask_mongo_session"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)

    assert "pip uninstall flask-mongo-session" in done.stderr
