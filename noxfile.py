"""The supported versions, the distribution and its bill of materials: ``nox``, or ``nox -s SESSION``; ``nox -l`` lists.

What a session makes lies in ``build/``. A Python that is not installed is skipped, saying so.
"""

from __future__ import annotations

import email
import fnmatch
import json
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["dist", "wheel", "tests", "oldest", "lint", "types", "sbom", "audit"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
OLDEST_ON = ["3.10", "3.13"]  # the oldest dependencies know no newer one

ROOT = Path(__file__).parent
BUILD = ROOT / "build"
DIST = BUILD / "dist"

#: Takes a minute or two; what comes after ``--`` takes its place.
SELECTION = ["tests/web", "tests/session", "tests/document", "tests/storage", "-m", "not soak"]
TEST_TOOLS = "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "time-machine", "freezegun", "typing_extensions"


@nox.session
def dist(session: nox.Session) -> None:
    """Build sdist and wheel, the wheel from the sdist; check what PyPI will show, and that no file is missing."""
    session.install(*wanted("build", "twine"))
    build(session)
    session.run("twine", "check", "--strict", *map(str, sorted(DIST.iterdir())))
    with tarfile.open(sdist_path()) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    missing = sorted(checkout() - packed)
    if missing:
        session.error(f"MANIFEST.in leaves out {', '.join(missing)}")


@nox.session
def wheel(session: nox.Session) -> None:
    """Install the wheel into an empty environment; run the README's example, then the tutorial with its tests."""
    newcomer, tutorial = str(ROOT / ".ci" / "newcomer.py"), ROOT / "docs" / "tutorial.md"
    built = wheel_path(session)
    session.install(f"{built}[embedded]")
    session.run("pip", "check")
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        session.run("python", newcomer, str(ROOT / "README.md"))
        if not tutorial.is_file():
            session.skip("There is no docs/tutorial.md: only the README's example ran.")
        session.install(f"{built}[embedded,admin,devices]", "flask-login", "pytest")
        session.run("python", newcomer, str(tutorial))
        session.run("pytest", "-q", "--require-mongod")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Test the installed wheel with the newest dependencies."""
    run_tests(session)


@nox.session(python=OLDEST_ON)
def oldest(session: nox.Session) -> None:
    """Test the installed wheel with the oldest dependencies that it allows."""
    floors = Path(session.create_tmp(), "floors.txt")
    floors.write_text("\n".join(oldest_allowed(wheel_path(session))), encoding="utf-8")
    run_tests(session, "--constraint", str(floors))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*wanted("ruff"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, and what users write with mypy and pyright."""
    session.install("-r", "requirements-dev.txt")
    session.run("mypy")
    session.run("basedpyright")


@nox.session
def sbom(session: nox.Session) -> None:
    """Write the bill of materials of a full installation, as CycloneDX."""
    cyclonedx = full_installation(session, "cyclonedx-bom>=7,<8") / "cyclonedx-py"
    target = BUILD / "sbom.cdx.json"
    session.run(str(cyclonedx), "environment", "-o", str(target), str(Path(session.bin, "python")), external=True)
    session.log(f"{target}: {len(json.loads(target.read_text(encoding='utf-8'))['components'])} components")


@nox.session
def audit(session: nox.Session) -> None:
    """Ask PyPI for advisories about what a full installation brings; says so where nobody answers."""
    pip_audit = full_installation(session, "pip-audit>=2.10,<3") / "pip-audit"
    answers = BUILD / "audit.json"
    answers.unlink(missing_ok=True)
    site = session.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", silent=True)
    arguments = "--path", str(site).strip(), "--timeout", "20", "-f", "json", "-o", str(answers)
    session.run(str(pip_audit), *arguments, external=True, success_codes=[0, 1])
    if not answers.is_file():
        session.warn("Advisories were NOT checked: the service did not answer.")
        return

    told = json.loads(answers.read_text(encoding="utf-8"))["dependencies"]
    known = {one["name"]: [found["id"] for found in one["vulns"]] for one in told if one.get("vulns")}
    unknown = [one["name"] for one in told if "skip_reason" in one]
    if known:
        session.error(f"Advisories: {known}")
    session.warn(f"Advisories were checked for {len(told) - len(unknown)} packages, NOT for {unknown}")


# -- how ---------------------------------------------------------------------------------------------------------------


def run_tests(session: nox.Session, *install: str) -> None:
    """Run the sdist's tests in a folder without the package, so that only the installed wheel can be imported."""
    session.install(f"{wheel_path(session)}[example,encryption]", *wanted(*TEST_TOOLS), *install)
    session.run("pip", "list")
    folder = Path(session.create_tmp(), "sdist")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist_path()) as archive:
        archive.extractall(folder)  # noqa: S202 - built a moment ago
    session.chdir(next(folder.iterdir()))
    shutil.rmtree("flask_mongo_session")
    session.run("pytest", "-q", "--tb=short", *(session.posargs or SELECTION))


def build(session: nox.Session) -> None:
    """Make ``build/dist`` anew, out of a copy, so that nothing is left in the checkout."""
    shutil.rmtree(DIST, ignore_errors=True)
    source = Path(session.create_tmp(), "source")
    shutil.rmtree(source, ignore_errors=True)
    for name in checkout():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    session.run("python", "-m", "build", "-q", "--outdir", str(DIST), str(source))


def wheel_path(session: nox.Session) -> Path:
    """The wheel that ``dist`` built."""
    found = sorted(DIST.glob("*.whl"))
    if not found:
        session.error("There is no wheel in build/dist: run `nox -s dist` first.")
    return found[0]


def sdist_path() -> Path:
    """The sdist that ``dist`` built."""
    return next(DIST.glob("*.tar.gz"))


def checkout() -> set[str]:
    """Every file of the project: all but what ``.gitignore`` names."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [".git", *(line.strip("/") for line in lines if line and not line.startswith("#"))]
    unwanted = re.compile("|".join(fnmatch.translate(pattern) for pattern in ignored))
    found = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not unwanted.match(name)]
        found |= {Path(folder, name).relative_to(ROOT).as_posix() for name in files if not unwanted.match(name)}
    return found


def wanted(*names: str) -> list[str]:
    """The lines of ``requirements-dev.txt`` for these packages."""
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    found = {re.split(r"[\[<>=~]", line)[0]: line.partition("#")[0].strip() for line in lines}
    return [found[name] for name in names]


def oldest_allowed(path: Path) -> list[str]:
    """The lower bounds of the wheel's requirements, as exact ones."""
    with zipfile.ZipFile(path) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = email.message_from_bytes(archive.read(metadata))
    bounds = (re.match(r"([\w.-]+)[^;]*?>=([\w.]+)", line) for line in message.get_all("Requires-Dist", []))
    return sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})


def full_installation(session: nox.Session, tool: str) -> Path:
    """Install the wheel with every extra but the example's; where the programs of *tool* are, installed apart."""
    session.install(f"{wheel_path(session)}[embedded,admin,devices,encryption,metrics,migration]")
    folder = Path(session.create_tmp(), "tool")
    session.run("python", "-m", "venv", "--clear", str(folder))
    programs = folder / Path(session.bin).name
    session.run(str(programs / "python"), "-m", "pip", "install", "-q", tool, external=True)
    return programs
