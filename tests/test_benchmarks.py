"""The benchmarks run and count what they are there to count; the floor is correct. Times are nobody's promise."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import bson
import pytest
from flask import Flask, session

from benchmarks import content, layer, targets
from benchmarks.contenders import bases_of
from benchmarks.correct_floor import CorrectFloor
from benchmarks.measure import Listener, Pace
from benchmarks.sessions import levels_to
from benchmarks.stub import StubClient

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def output(tmp_path_factory, mongo_server):
    """The folder that a run left in which everything was called once."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--scale", "200", "--save", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    return folder


@pytest.fixture(scope="module")
def results(output):
    """What that run wrote for programs."""
    return json.loads((output / "results.json").read_text(encoding="utf-8"))["standalone"]


@pytest.mark.parametrize(
    ("case", "commands"),
    [
        ("untouched", []),
        ("read", ["find"]),
        ("changed", ["find", "update"]),
        ("blind write", ["update"]),
        ("first write", ["insert"]),
        ("log-in", ["find", "update"]),
    ],
)
def test_commands_of_a_request(results, case, commands):
    """Each kind of request sends exactly these commands."""
    assert results["requests"][case]["ours"]["commands"] == commands


@pytest.mark.parametrize(
    ("case", "raw", "correct"),
    [
        ("read", ["find"], ["find"]),
        ("changed", ["find", "update"], ["find", "update"]),
        ("blind write", ["find", "update"], ["update"]),
        ("first write", ["insert"], ["insert"]),
        ("log-in", ["find", "update"], ["find", "update"]),
    ],
)
def test_commands_of_the_floors(results, case, raw, correct):
    """The floors send what keeping a session takes, and nothing else."""
    rows = results["requests"][case]

    assert (rows["raw"]["commands"], rows["correct"]["commands"]) == (raw, correct)


@pytest.mark.parametrize(
    ("operation", "commands"),
    [("find", ["find"]), ("miss", ["find"]), ("commit", ["update"]), ("delete", ["delete"]), ("declared", ["find"])],
)
def test_commands_of_the_store(results, operation, commands):
    """Each operation of the store is as many commands as the raw call beside it."""
    ours, base = results["operations"][operation].values()

    assert ours["commands"] == base["commands"] == commands


def test_peers_are_measured_as_they_are(results):
    """Flask-Session asks and writes whatever a view does."""
    assert results["requests"]["untouched"]["indexed"]["commands"] == ["find", "update"]


def test_every_ratio_is_to_both_floors(results):
    """Whole requests, large sessions and the layer alone are compared with the raw and with the correct floor."""
    tables = [*results["requests"].values(), *results["layer"].values()]
    tables += [rows for cases in results["sizes"].values() for rows in cases.values()]

    assert tables
    assert {label for rows in tables for row in rows.values() for label in row["to"]} == {"raw", "correct"}
    assert all("raw" in rows["ours"]["to"] or "raw" not in rows for rows in tables)


def test_sizes_are_what_they_are_called(results):
    """The contents of a large session are as large as the table says, within a tenth."""
    assert list(results["sizes"]) == ["1 KiB", "10 KiB", "100 KiB"]
    for size in (1, 10, 100):
        assert len(bson.encode(content.content_of(size * 1024))) == pytest.approx(size * 1024, rel=0.1)


def test_many_sessions_are_measured(results):
    """A request beside many sessions, and everything about many sessions, is measured at the number asked for."""
    assert list(results["sessions"]) == ["1", "200"]
    assert set(results["sessions"]["200"]) >= {"ours", "raw", "correct", "cookie", "shipped", "indexed"}
    assert results["scale"]["sessions"] == 200
    assert results["scale"]["sweep"]["removed"] == 100


def test_charts_show_every_contender(output):
    """The pictures for the README and the documentation are drawn from the same figures."""
    chart = (output / "requests.svg").read_text(encoding="utf-8")

    assert chart.startswith("<svg ")
    for name in (
        "flask-mongoengine-session",
        "correct floor",
        "raw floor",
        "signed cookie",
        "Flask-Session",
        "mongoengine",
    ):
        assert name in chart
    assert "100 KiB" in (output / "sizes.svg").read_text(encoding="utf-8")
    assert "beside 200 sessions" in (output / "sessions.svg").read_text(encoding="utf-8")


def test_nothing_is_written_unasked(tmp_path):
    """Without ``--save`` results are printed, nowhere kept."""
    kept = ROOT / "benchmarks" / "results" / "results.json"
    before = kept.stat().st_mtime_ns
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--layer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert "The layer alone" in done.stdout
    assert kept.stat().st_mtime_ns == before


def test_levels_end_with_the_number_asked_for():
    """``--scale`` cuts the numbers of sessions that a request is measured beside."""
    assert levels_to(5_000) == [1, 1_000, 5_000]
    assert levels_to(1_000_000) == [1, 1_000, 100_000, 1_000_000]


class TestTargets:
    def test_without_measurements_nothing_is_reached_or_missed(self):
        """What was not measured is said to be so."""
        assert all(target.reached is None for target in targets.targets({}))
        assert "0 of 0 measured targets reached" in targets.text({})

    def test_limits(self):
        """A figure may be as large as its limit, or, where at least so much is wanted, as small."""
        assert targets.Target("", 1.0, 1.0).reached is True
        assert targets.Target("", 1.01, 1.0).reached is False
        assert targets.Target("", 2.0, 2.0, least=True).reached is True
        assert targets.Target("", 1.9, 2.0, least=True).reached is False

    def test_names_meet_the_results(self, results):
        """Every target about requests, the layer and the store finds its figure in what is measured."""
        found = {target.what: target.value for target in targets.targets(results)}
        missing = {what for what, value in found.items() if value is None}

        assert all(word in " ".join(missing) for word in ("served", "sweep", "iterate()", "import"))
        assert not [what for what in missing if what.startswith(("untouched", "read", "layer", "store", "driver"))]


class TestLayer:
    def test_needs_no_server(self):
        """Every kind of request is answered by the stub, ours and both floors'."""
        rows = layer.measure(Pace(rounds=2, block=2))

        assert set(rows["read"]) == {"ours", "raw", "correct", "none", "cookie"}
        assert all(bases_of(case)["correct"] in cases for case, cases in rows.items())

    def test_counts_calls(self):
        """The Python calls of a request are exact: the same in two runs, and fewer where less is done."""
        first, second = (layer.measure(Pace(rounds=1, block=1)) for _ in range(2))
        calls = {case: rows["ours"]["calls"] for case, rows in first.items()}

        assert calls == {case: rows["ours"]["calls"] for case, rows in second.items()}
        assert 0 < calls["untouched"] < calls["read"] < calls["changed"]

    def test_anything_else_fails(self):
        """A call that the stub does not know fails instead of counting as done."""
        with StubClient() as client:
            with pytest.raises(NotImplementedError):
                client["shop"].command("dropDatabase")
            with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
                client["shop"]["sessions"].count_documents({})


class Visitor:
    """A browser of the correct floor's application, and what its requests send."""

    def __init__(self, app: Flask, listener: Listener) -> None:
        self.browser, self.listener = app.test_client(), listener

    @property
    def cookie(self) -> str | None:
        found = self.browser.get_cookie("session")
        return found.value if found else None

    def get(self, path: str) -> tuple[str, list[str]]:
        """The answer's text, and the commands."""
        self.listener.clear()
        return self.browser.get(path).text, self.listener.names


class TestCorrectFloor:
    """What makes it a floor to be measured against: it gives the guarantees that it is compared for."""

    @pytest.fixture
    def collection(self, mongo_database):
        return content.collection_of(mongo_database, "correct")

    @pytest.fixture
    def listener(self):
        return Listener()

    @pytest.fixture
    def app(self, mongo_server, mongo_database, listener):
        app = Flask("correct")
        with mongo_server.client(event_listeners=[listener]) as client:
            app.session_interface = CorrectFloor("key", content.collection_of(client[mongo_database.name], "correct"))
            self.add_views(app)
            yield app

    def add_views(self, app):
        @app.get("/set/<key>/<value>")
        def set_key(key, value):
            session[key] = value
            return "ok"

        @app.get("/get/<key>")
        def get_key(key):
            return str(session.get(key))

        @app.get("/pop/<key>")
        def pop_key(key):
            return str(session.pop(key, None))

        @app.get("/list")
        def fill_list():
            session["list"] = []
            return "ok"

        @app.get("/append")
        def append():
            session["list"].append(1)
            return "ok"

        @app.get("/clear")
        def clear():
            session.clear()
            return "ok"

        @app.get("/untouched")
        def untouched():
            return "ok"

    @pytest.fixture
    def visitor(self, app, listener):
        visitor = Visitor(app, listener)
        visitor.get("/set/theme/dark")
        return visitor

    def test_stores_and_finds(self, visitor):
        """What one request writes the next one reads, with one command each; unused it costs none."""
        assert visitor.get("/get/theme") == ("dark", ["find"])
        assert visitor.get("/untouched") == ("ok", [])
        assert visitor.get("/set/theme/light") == ("ok", ["update"])
        assert visitor.get("/get/theme") == ("light", ["find"])

    def test_database_holds_no_token(self, visitor, collection):
        """Nobody who reads the database can make a cookie of it."""
        stored = collection.find_one()
        token = visitor.cookie.split(".")[1]

        assert token not in str(stored)
        assert stored["_id"] == visitor.cookie.split(".")[0]

    @pytest.mark.parametrize("cookie", ["", "a", "a.b", "a.b.c", "é.ü.ß", "..", "x" * 2000])
    def test_forged_cookie_is_an_empty_session(self, app, listener, cookie):
        """A cookie with another signature costs no command."""
        stranger = Visitor(app, listener)
        stranger.browser.set_cookie("session", cookie)

        assert stranger.get("/get/theme") == ("None", [])

    def test_changes_in_place_are_stored(self, visitor):
        """A list that was changed where it stands is written, one that was looked at is not."""
        visitor.get("/list")

        assert visitor.get("/append") == ("ok", ["find", "update"])
        assert visitor.get("/get/list") == ("[1]", ["find"])

    def test_log_in_changes_the_token_in_one_update(self, visitor, collection, app, listener):
        """The token from before the log-in reads nothing any more; id and data stay."""
        before = Visitor(app, listener)
        before.browser.set_cookie("session", visitor.cookie)
        sid = collection.find_one()["_id"]

        assert visitor.get("/set/user_id/7") == ("ok", ["find", "update"])
        assert before.get("/get/theme") == ("None", ["find"])
        assert visitor.get("/get/theme") == ("dark", ["find"])
        assert [record["_id"] for record in collection.find()] == [sid]

    def test_log_out_wins(self, visitor, app, listener):
        """A session that was ended is not brought back by a request that knew its cookie."""
        late = Visitor(app, listener)
        late.browser.set_cookie("session", visitor.cookie)
        visitor.get("/clear")

        assert visitor.cookie is None
        assert late.get("/get/theme")[0] == "None"
        late.get("/set/theme/late")
        assert visitor.get("/get/theme")[0] == "None"

    def test_removed_keys_are_removed(self, visitor):
        """One key goes, the others stay."""
        visitor.get("/set/other/1")

        assert visitor.get("/pop/theme") == ("dark", ["find", "update"])
        assert visitor.get("/get/theme")[0] == "None"
        assert visitor.get("/get/other")[0] == "1"

    def test_expired_is_gone(self, visitor, collection):
        """Expired, swept or not, a session is neither read nor written; what is written begins a new one."""
        past = content.now() - dt.timedelta(seconds=1)
        collection.update_many({}, {"$set": {"expires_at": past}})

        assert visitor.get("/get/theme") == ("None", ["find"])
        assert visitor.get("/set/other/1") == ("ok", ["update", "insert"])
        assert collection.count_documents({"expires_at": {"$gt": content.now()}}) == 1

    def test_use_moves_the_expiry_when_due(self, visitor, collection):
        """A session that is used lives on, at the cost of an update a minute."""
        long_ago = content.now() - dt.timedelta(seconds=61)
        collection.update_many({}, {"$set": {"touched_at": long_ago}})

        assert visitor.get("/get/theme") == ("dark", ["find", "update"])
        assert visitor.get("/get/theme") == ("dark", ["find"])
        assert collection.find_one()["touched_at"] > long_ago
