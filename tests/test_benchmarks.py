"""The benchmarks run, and count what they are there to count; their times are nobody's promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def output(tmp_path_factory, mongo_server):
    """The folder that a run left in which everything was called once."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--output", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    return folder


@pytest.fixture(scope="module")
def results(output):
    """What that run wrote for programs."""
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("case", "commands"),
    [
        ("untouched", []),
        ("read", ["find"]),
        ("changed", ["find", "update"]),
        ("blind write", ["update"]),
        ("first write", ["insert"]),
        ("log-in", ["find", "findAndModify", "insert"]),
    ],
)
def test_commands_of_a_request(results, case, commands):
    """Each kind of request sends exactly these commands."""
    assert results["requests"][case]["ours"]["commands"] == commands


@pytest.mark.parametrize(
    ("operation", "commands"),
    [("find", ["find"]), ("miss", ["find"]), ("commit", ["update"]), ("delete", ["delete"]), ("declared", ["find"])],
)
def test_commands_of_the_store(results, operation, commands):
    """Each operation of the store is as many commands as the raw call beside it."""
    ours, base = results["operations"][operation].values()

    assert ours["commands"] == base["commands"] == commands


def test_peers_are_measured_as_they_are(results):
    """The floor sends what keeping a session takes; Flask-Session asks and writes whatever a view does."""
    assert results["requests"]["read"]["floor"]["commands"] == ["find"]
    assert results["requests"]["log-in"]["floor"]["commands"] == ["find", "findAndModify", "insert"]
    assert results["requests"]["untouched"]["indexed"]["commands"] == ["find", "update"]


def test_chart_shows_every_contender(output):
    """The chart for the README is drawn from the same figures."""
    chart = (output / "requests.svg").read_text(encoding="utf-8")

    assert chart.startswith("<svg ")
    assert "flask-mongo-session" in chart
    assert "Flask-Session" in chart
