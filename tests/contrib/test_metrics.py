"""Metrics: what Prometheus and OpenTelemetry read, what it costs, and the readiness probe."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from pathlib import Path

import prometheus_client
import pytest
from flask import Flask, session
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from werkzeug.serving import make_server

from flask_mongo_session import SetupError, new_session_id, session_destroyed
from flask_mongo_session.contrib.metrics import check_health
from flask_mongo_session.contrib.metrics.events import COUNTERS
from flask_mongo_session.contrib.metrics.figures import CachedFigures
from flask_mongo_session.contrib.metrics.opentelemetry import OpenTelemetryMetrics
from flask_mongo_session.contrib.metrics.prometheus import PrometheusMetrics
from flask_mongo_session.management.statistics import live_count

PATIENCE = 30


def samples(text):
    """Every sample of a page, by name and labels: ``{("mongo_session_ended_total", "logout"): 1.0}``."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def meter(app, **options):
    """Give *app* a page of metrics; returns what reads it."""
    metrics = PrometheusMetrics(app, registry=CollectorRegistry(), **{"seconds": 0, **options})
    app.add_url_rule("/metrics", "metrics", metrics.page)
    return lambda: samples(app.test_client().get("/metrics").text)


@pytest.fixture
def read(app):
    """The metrics of the application, as a scraper reads them."""
    return meter(app)


def test_every_event_is_counted_by_its_reason(app, read, store, move_clock):
    """Created, rotated, ended, rejected, swept: each as often as it happened, with the reason that was announced."""
    ada, bob = app.test_client(), app.test_client()
    assert read()["mongo_session_created_total",] == 0
    ada.get("/write/a/1")
    ada.get("/login/ada")
    bob.get("/login/bob")
    bob.get("/logout")
    app.extensions["sessions"].revoke_user("ada")
    ada.get("/read/a")
    mallory = app.test_client()
    mallory.set_cookie("session", "forged.cookie.s.x")
    mallory.get("/untouched")
    store.commit(new_session_id(), {}, store.now())
    store.delete_expired()

    found = read()
    assert found["mongo_session_created_total",] == 2
    assert found["mongo_session_rotated_total", "login"] == 1
    assert found["mongo_session_ended_total", "logout"] == 1
    assert found["mongo_session_ended_total", "revoked"] == 1
    assert found["mongo_session_rejected_total", "unknown"] == 1
    assert found["mongo_session_rejected_total", "forged"] == 1
    assert found["mongo_session_swept_total",] == 1
    assert found["mongo_session_last_sweep_removed",] == 1
    assert time.time() - found["mongo_session_last_sweep_timestamp_seconds",] == pytest.approx(0, abs=5)


def test_every_series_is_there_from_the_start(read):
    """At zero, so that the first event is an increase; and no reason but the announced ones."""
    found = read()
    for name, counter in COUNTERS.items():
        for reason in counter.reasons or ("",):
            key = (f"mongo_session_{name}_total", reason) if reason else (f"mongo_session_{name}_total",)
            assert found[key] == 0


def test_labels_are_bounded_and_say_nothing_of_anybody(app, read):
    """A thousand users make no more series; neither their ids nor those of their sessions are there."""
    before = len(read())
    sid = ""
    for number in range(30):
        client = app.test_client()
        client.get(f"/login/user-{number}")
        with client.session_transaction() as stored:
            sid = stored.sid
    session_destroyed.send(app, sid=sid, reason="a reason of tomorrow")

    page = app.test_client().get("/metrics").text
    assert len(samples(page)) == before
    assert "user-" not in page
    assert sid not in page
    assert samples(page)["mongo_session_ended_total", "other"] == 1


def test_operations_are_timed(app, read):
    """A find and an update are two operations; a sum in seconds."""
    browser = app.test_client()
    browser.get("/write/a/1")
    before = read()
    browser.get("/count")

    after, name = read(), "mongo_session_operation_seconds"
    asked = 2  # for the first of the two pages itself: live sessions, the last sweep
    assert after[f"{name}_count", "request", "ok"] - before[f"{name}_count", "request", "ok"] == 2 + asked
    assert 0 < after[f"{name}_sum", "request", "ok"] < PATIENCE


def test_a_storm_of_scrapes_asks_the_database_once(app, commands):
    """Sixteen scrapers at once and then again: one measurement; nobody waits for it."""
    read = meter(app, seconds=60)
    commands.clear()
    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert read()["mongo_session_live",] == 0

    assert commands.names == ["aggregate", "find"]


@pytest.mark.parametrize("live", [0, 7, 10, 25])
def test_the_live_sessions_are_counted_or_estimated(store, monkeypatch, live):
    """Exact while they are few; beyond, all records less the expired ones; tombstones are none."""
    monkeypatch.setattr("flask_mongo_session.management.statistics._COUNTED", 10)
    now = store.now()
    rows = [(now.replace(year=now.year + 1), live), (now.replace(year=now.year - 1), 5)]
    records = [{"_id": new_session_id(), "data": {}, "expires_at": at} for at, count in rows for _ in range(count)]
    store.collection.insert_many(records)
    ended = new_session_id()
    store.commit(ended, {}, now.replace(year=now.year + 1))
    store.delete(ended)

    assert live_count(store) == live


def test_more_expired_ones_than_are_counted_do_not_count_as_live(store, monkeypatch):
    """Where a sweep is far behind, a sample says how many of all records are alive."""
    for name, value in {"_COUNTED": 10, "_MAX_COUNT": 100, "SAMPLE": 400}.items():
        monkeypatch.setattr(f"flask_mongo_session.management.statistics.{name}", value)
    now = store.now()
    rows = [(now.replace(year=now.year + 1), 200), (now.replace(year=now.year - 1), 1_800)]
    records = [{"_id": new_session_id(), "data": {}, "expires_at": at} for at, count in rows for _ in range(count)]
    store.collection.insert_many(records)

    assert 60 < live_count(store) < 1_000


def test_figures_outlive_a_fork_in_the_middle_of_a_measurement(store):
    """A lock that was held during the fork does not keep the child from measuring."""
    figures = CachedFigures(store, 0)
    figures._lock.acquire()
    assert figures.get() is None
    figures._process = -1  # as a child finds it

    assert figures.get().live == 0


def test_an_application_is_not_kept_alive(make_app):
    """By the exporters, which live as long as the process; what they say of it is absent then."""
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    app = Flask("short-lived")
    app.config.update(SECRET_KEY="x", SESSION_MONGODB_URI="mongodb://127.0.0.1:1", SESSION_CLEANUP_INTERVAL=0)
    make_app.__globals__["MongoSession"](app)
    PrometheusMetrics(app, registry=registry)
    OpenTelemetryMetrics(app, meter_provider=MeterProvider([reader]))
    gone = weakref.ref(app)
    del app
    gc.collect()

    assert gone() is None
    assert registry.get_sample_value("mongo_session_live") is None


def test_not_counting_rejections_leaves_pages_alone(app, monkeypatch):
    """With ``rejected=False`` no page verifies a cookie that it does not use."""
    from flask_mongo_session.web.cookie import CookieSigner

    read = meter(app, rejected=False)
    browser = app.test_client()
    browser.get("/write/a/1")
    monkeypatch.setattr(CookieSigner, "read", lambda *_: pytest.fail("verified"))
    assert browser.get("/untouched").text == "nothing"
    assert read()["mongo_session_rejected_total", "forged"] == 0


def test_a_broken_exporter_harms_nobody(app, monkeypatch, caplog):
    """A full disk under the files of the metrics is logged; the visitor's session is stored."""
    from prometheus_client import Counter, Histogram

    meter(app)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Counter, "inc", full)
    monkeypatch.setattr(Histogram, "observe", full)
    browser = app.test_client()
    browser.get("/write/a/1")
    assert browser.get("/read/a").text == "1"
    assert "No space left" in caplog.text


def test_without_sessions_one_is_told(database):
    """The application has to have them first."""
    for measure in (PrometheusMetrics, OpenTelemetryMetrics, check_health):
        with pytest.raises(SetupError, match="MongoSession"):
            measure(Flask("bare"))


def test_opentelemetry_reads_the_same(app, store):
    """Counters with reasons, the latency in seconds, and gauges that are asked for when somebody collects."""
    reader = InMemoryMetricReader()
    OpenTelemetryMetrics(app, meter_provider=MeterProvider([reader]), seconds=0)
    browser = app.test_client()
    browser.get("/write/a/1")
    browser.get("/login/ada")
    app.test_client().get("/write/a/1")
    browser.get("/logout")
    store.delete_expired()

    found = {
        (metric.name, *point.attributes.values()): point
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    assert found["mongo_session.created",].value == 2
    assert found["mongo_session.rotated", "login"].value == 1
    assert found["mongo_session.ended", "logout"].value == 1
    assert found["mongo_session.live",].value == 1
    assert found["mongo_session.breaker.open",].value == 0
    assert found["mongo_session.last_sweep.removed",].value == 0
    assert found["mongo_session.operation.duration", "request", "ok"].count > 3
    assert 0.001 in found["mongo_session.operation.duration", "request", "ok"].explicit_bounds


def wait_until_healthy(app):
    deadline = time.monotonic() + PATIENCE
    while not check_health(app).ok:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_outage_is_seen_and_probes_stay_quick(make_app, mongo_server_own):
    """While the server hangs: failed operations, an open breaker, no count of live sessions, a probe that says so."""
    app = make_app(SESSION_MONGODB=None, SESSION_MONGODB_URI=mongo_server_own.uri, SESSION_MONGODB_TIMEOUT=1.0)
    read = meter(app)
    wait_until_healthy(app)
    assert read()["mongo_session_breaker_open",] == 0

    mongo_server_own.pause()
    try:
        health = [check_health(app) for _ in range(4)]
        found = read()
    finally:
        mongo_server_own.resume()
    assert {(one.status, one.code) for one in health} == {("unavailable", 503)}
    assert max(one.seconds for one in health) < 2
    assert health[-1].seconds < 0.1  # the breaker answers
    assert found["mongo_session_breaker_open",] == 1
    assert found["mongo_session_operation_seconds_count", "request", "failed"] >= 3
    assert ("mongo_session_live",) not in found

    wait_until_healthy(app)
    assert read()["mongo_session_breaker_open",] == 0
    assert ("mongo_session_live",) in read()


def test_the_probe_says_nothing_secret(make_app):
    """One word: no host, no reason, no name of a database."""
    uri = "mongodb://secret-host:1/secret-db"
    app = make_app(SESSION_MONGODB=None, SESSION_MONGODB_URI=uri, SESSION_MONGODB_TIMEOUT=0.2)

    assert "secret" not in repr(check_health(app))


def test_several_processes_are_one_application(mongo_server, tmp_path, worker_id):
    """Two workers of gunicorn, each counting for itself: any of them answers with the sum."""
    database = f"metered_{worker_id}_{os.getpid()}"
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Path(__file__).parent
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "2", "--preload"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])]),
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
        "METERED_URI": mongo_server.uri,
        "METERED_DB": database,
    }
    said = (tmp_path / "said").open("wb")
    server = subprocess.Popen(
        [*command, "--no-control-socket", "metered_shop:create_app()"], env=environment, stdout=said, stderr=said
    )

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.read().decode()

    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                get("/pid")
                break
            time.sleep(0.05)
        logins = []
        while len(set(logins)) < 2 and time.monotonic() < deadline:
            logins.append(get("/login"))
        pages = [samples(get("/metrics")) for _ in range(4)]
        ready = get("/ready")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)
        said.close()
        with mongo_server.client() as client:
            client.drop_database(database)

    assert len(set(logins)) == 2, (tmp_path / "said").read_text()
    assert [page["mongo_session_created_total",] for page in pages] == [len(logins)] * 4
    assert [page["mongo_session_live",] for page in pages] == [len(logins)] * 4
    assert pages[0]["mongo_session_breaker_open",] == 0
    assert re.sub(r"\s", "", ready) == '{"sessions":"ok"}'


@pytest.mark.parametrize(
    ("missing", "part"), [("prometheus_client", "prometheus"), ("opentelemetry.metrics", "opentelemetry")]
)
def test_without_the_extra_one_is_told_what_to_install(missing, part):
    """A part whose package is missing names it."""
    program = f"import sys; sys.modules[{missing!r}] = None; import flask_mongo_session.contrib.metrics.{part}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert "flask-mongoengine-session[metrics]" in done.stderr


def test_the_page_does_not_use_the_session(app, read, commands):
    """A scraper gets no cookie, and no session is stored for it."""
    answer = app.test_client().get("/metrics")
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" not in answer.headers.get("Vary", "")
    with app.test_request_context():
        assert session.new


def test_the_documented_page_is_scraped(app, monkeypatch):
    """Every block of the how-to runs; its page wants the scraper's token, and says all that the table names."""
    monkeypatch.setattr(prometheus_client, "REGISTRY", CollectorRegistry())
    monkeypatch.setenv("METRICS_TOKEN", "a token for tests")
    guide = Path(__file__).parents[2] / "docs" / "howto" / "metrics.md"
    document = Sybil(parsers=[PythonCodeBlockParser()], encoding="utf-8").parse(guide)
    document.namespace.update(app=app)
    for example in document.examples():
        example.evaluate()
    browser = app.test_client()
    browser.get("/login/ada")

    assert browser.get("/metrics").status_code == 401
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        scraper = urllib.request.Request(f"{url}/metrics", headers={"Authorization": "Bearer a token for tests"})
        with urllib.request.urlopen(scraper, timeout=PATIENCE) as answer:
            text = answer.read().decode()
        with urllib.request.urlopen(f"{url}/ready", timeout=PATIENCE) as answer:
            assert answer.read().strip() == b'{"sessions":"ok"}'
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()

    found = samples(text)
    assert found["mongo_session_created_total",] == 1
    assert found["mongo_session_live",] == 1
    documented = re.findall(r"^\| `(mongo_session_\w+)`", guide.read_text(encoding="utf-8"), re.MULTILINE)
    told = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert set(documented) <= told | {f"{name}_total" for name in told}
