"""Runs other libraries' own test suites, out of their source distributions, with and without our sessions."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pymongo
import pytest

import flask_mongo_session

HERE = Path(__file__).parent
SOURCES = Path(flask_mongo_session.__file__).parents[1]

# What those suites need besides their library. They use pytest's insides, which pytest 9 changed.
TOOLS = ["pytest>=8.4,<9", "asgiref>=3.8,<4", "python-dotenv>=1,<2", "semantic-version>=2.10,<3"]


@dataclass(frozen=True)
class Outcome:
    """What became of each test of a suite, by its name."""

    passed: frozenset
    failed: frozenset
    skipped: frozenset
    output: str


def unavailable(what, why):
    """A suite that cannot be had is skipped on a developer's machine, and a failure where CI is set."""
    message = f"{what} cannot be had: {why}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def pip(*arguments):
    """Run pip; what it has to say when it fails, or None."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stderr.strip() if done.returncode else None


def kept(cache, name, make):
    """The folder of this name in pytest's cache; made only whole: ``make`` fills a new one and may return an error."""
    folder = Path(cache.mkdir("compat")) / name
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{name}.{os.getpid()}")
    error = make(unfinished)
    if error:
        shutil.rmtree(unfinished, ignore_errors=True)
        unavailable(name, error)
    try:
        unfinished.rename(folder)
    except OSError:  # another worker was faster
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def tools(request):
    """A folder with what the suites need, apart from the environment that runs our own tests."""
    name = f"tools-{sys.version_info.major}.{sys.version_info.minor}"
    return kept(request.config.cache, name, lambda folder: pip("install", "--target", str(folder), *TOOLS))


@pytest.fixture
def unpack(request, tmp_path):
    """Unpack a library in the version that is installed: its tests and pytest's settings, or what else is *wanted*."""

    def unpack(library, wanted=("tests/", "pyproject.toml", "setup.cfg")):
        version = importlib.metadata.version(library)
        fetch = ["download", "--no-deps", "--no-binary", library, f"{library}=={version}"]
        folder = kept(request.config.cache, f"{library}-{version}", lambda folder: pip(*fetch, "--dest", str(folder)))
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                top, _, inner = member.name.partition("/")
                if member.isfile() and inner.startswith(wanted):
                    target = tmp_path / top / inner  # by hand: Debian 12's Python knows no extraction filters
                    assert ".." not in target.parts
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
        return tmp_path / top

    return unpack


@pytest.fixture
def run_suite(tools, mongo_server):
    """Run an unpacked suite in a process of its own: as it is, or with ``MongoSession`` on every application.

    With *changed*, the suite's application was given our sessions before.
    """

    def run_suite(folder, *, database=None, changed=False):
        plugin = ["-p", "install_everywhere"] if database and not changed else []
        paths = [tools, SOURCES, *([HERE] if plugin else [])]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "PYTEST_", "COV"))
        }
        environment |= {
            "COMPAT_MONGODB_URI": mongo_server.uri.replace("/?", f"/{database}?"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        results = folder / f"{database or 'as it is'}.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests", *plugin, "-q", "-p", "no:cacheprovider", f"--junitxml={results}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
        return outcome(results, done.stdout)

    return run_suite


def outcome(results, output):
    """Read the results that pytest wrote."""
    names = {"passed": set(), "failed": set(), "skipped": set()}
    for case in ET.parse(results).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        tags = {child.tag for child in case}
        kind = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
        names[kind].add(f"{case.get('classname')}::{case.get('name')}")
    return Outcome(**{kind: frozenset(found) for kind, found in names.items()}, output=output)


@pytest.fixture
def same_with_our_sessions(unpack, run_suite, mongo_server):
    """Run a library's suite as it is, then with our sessions: the same tests pass, and ours were really used."""

    def same_with_our_sessions(library):
        folder = unpack(library)
        database = f"compat_{library.lower().replace('-', '_')}"
        plain, ours = run_suite(folder), run_suite(folder, database=database)
        assert not ours.failed - plain.failed, ours.output
        assert ours.passed >= plain.passed, sorted(plain.passed - ours.passed)
        with pymongo.MongoClient(mongo_server.uri) as client:
            assert client[database]["sessions"].estimated_document_count() > 0, "no test kept a session with us"
        return ours

    return same_with_our_sessions
