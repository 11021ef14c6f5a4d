"""Runs other libraries' own test suites, out of their source distributions, with and without our sessions."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import pymongo
import pytest

import flask_mongo_session

HERE = Path(__file__).parent
SOURCES = Path(flask_mongo_session.__file__).parents[1]
DISTRIBUTION = "flask-mongoengine-session"

# What those suites need besides their library. They use pytest's insides, which pytest 9 changed.
TOOLS = ["pytest>=8.4,<9", "asgiref>=3.8,<4", "python-dotenv>=1,<2", "semantic-version>=2.10,<3"]
#: What is unpacked: the tests, and the files that hold settings of pytest.
WANTED = ("tests/", "pyproject.toml", "setup.cfg", "pytest.ini")


@dataclass(frozen=True)
class Suite:
    """The tests in a library's source distribution, and what they need.

    :param version: what the environment has installed, unless *requires* brings the library.
    :param requires: what to install, apart from the environment and in its versions, for this suite alone.
    :param options: of pytest.
    :param config: of every application, for the run with our sessions. :param shim: a plugin for it, beside this file.
    :param seconds: that one run may take.
    """

    package: str
    version: str | None = None
    requires: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    config: dict[str, object] = field(default_factory=dict)
    shim: str | None = None
    seconds: int = 100


PLAIN = Suite("")


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
        timeout=300,
    )
    return done.stderr.strip() if done.returncode else None


def install(folder, wanted):
    """Install *wanted* into a folder, with the versions of what is installed here already, but for pytest's."""
    here = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    kept = [f"{name}=={version}" for name, version in here.items() if name not in {"pytest", DISTRIBUTION}]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(kept))
        constraints.flush()
        return pip("install", "--target", str(folder), "--constraint", constraints.name, *wanted)


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


@pytest.fixture
def tools(request):
    """Find, or make, a folder with what a suite needs, apart from the environment that runs our own tests."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"

    def tools(suite):
        name = f"{suite.package}-{suite.version}-" if suite.requires else ""
        wanted = [*TOOLS, *suite.requires]
        return kept(request.config.cache, f"{name}tools-{python}", lambda folder: install(folder, wanted))

    return tools


@pytest.fixture
def unpack(request, tmp_path):
    """Unpack a library, in the installed version by default: its tests and settings, or what else is *wanted*."""

    def unpack(library, wanted=WANTED, *, version=None):
        version = version or importlib.metadata.version(library)
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

    With *changed*, the suite's application was given our sessions before. *suite* says what it needs.
    """

    def run_suite(folder, *, database=None, changed=False, suite=PLAIN):
        plugins = ["install_everywhere", *([suite.shim] if suite.shim else [])] if database and not changed else []
        paths = [tools(suite), SOURCES, *([HERE] if plugins else [])]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "PYTEST_", "COV"))
        }
        environment |= {
            "COMPAT_CONFIG": json.dumps(suite.config),
            "COMPAT_MONGODB_URI": mongo_server.uri.replace("/?", f"/{database}?"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        results = folder / f"{database or 'as it is'}.xml"
        options = [*suite.options, *(f"-p{plugin}" for plugin in plugins), "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests", *options, f"--junitxml={results}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=suite.seconds,
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
    """Run a library's suite with our sessions: the tests pass that pass without us, and ours were really used.

    Where all of them do, nothing is left to compare.
    """

    def same_with_our_sessions(library, **needs):
        suite = Suite(library, **needs)
        folder = unpack(library, version=suite.version)
        database = f"compat_{library.lower().replace('-', '_')}"
        ours = run_suite(folder, suite=suite, database=database)
        plain = run_suite(folder, suite=suite) if ours.failed or ours.skipped else ours
        print(f"{library}, as it is: {len(plain.passed)} passed; failed: {sorted(plain.failed) or 'none'}")  # noqa: T201 - for people, with -rP
        assert not ours.failed - plain.failed, ours.output
        assert ours.passed >= plain.passed, sorted(plain.passed - ours.passed)
        with pymongo.MongoClient(mongo_server.uri) as client:
            assert client[database]["sessions"].estimated_document_count() > 0, "no test kept a session with us"
        return ours

    return same_with_our_sessions
