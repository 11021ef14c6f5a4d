"""Metrics for Prometheus, through ``prometheus-client``; its multi-process mode included."""

from __future__ import annotations

import os
import typing as t

from flask import Flask, Response, request

try:
    import prometheus_client as client
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        "flask_mongo_session.contrib.metrics.prometheus needs the package 'prometheus-client': "
        "pip install 'flask-mongoengine-session[metrics]'"
    ) from error

from .events import BUCKETS, COUNTERS, KINDS, OUTCOMES, Recorder, store_of
from .figures import CachedFigures

__all__ = ["PrometheusMetrics"]

_PREFIX = "mongo_session"


class PrometheusMetrics:
    """The metrics of one application, on a registry of ``prometheus_client``.

    :param app: an application with :class:`MongoSession`; raises :exc:`SetupError` without it.
    :param registry: ``prometheus_client.REGISTRY`` unless given; applications do not share one.
    :param rejected: whether rejected cookies are counted, which has every page verify the cookie's signature.
    :param seconds: the live sessions and the last sweep are asked for at most once per so many seconds and process.
    """

    def __init__(
        self,
        app: Flask,
        *,
        registry: client.CollectorRegistry | None = None,
        rejected: bool = True,
        seconds: float = 15.0,
    ) -> None:
        self._registry = registry = registry or client.REGISTRY
        #: The figures that the database knows, for a registry of your own in multi-process mode.
        self.collector: Collector = _DatabaseCollector(CachedFigures(store_of(app), seconds))
        if not _many_processes():
            registry.register(self.collector)
        Recorder(app, _Instruments(registry), rejected=rejected)

    def page(self) -> Response:
        """A view: what Prometheus scrapes, of all processes in multi-process mode. It does not use the session.

        Anybody who may open it sees how many people log in; leave it to the scraper.
        """
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = Response(encode(self._everything()), content_type=content_type)
        response.headers["Cache-Control"] = "no-store"
        return response

    def _everything(self) -> client.CollectorRegistry:
        """The registry; in multi-process mode one made for this answer, since its files hold what others counted."""
        if not _many_processes():
            return self._registry

        registry = client.CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # registers itself; it ships no types
        registry.register(self.collector)
        return registry


def _many_processes() -> bool:
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


class _Instruments:
    """The counters of one process."""

    def __init__(self, registry: client.CollectorRegistry) -> None:
        self._counters = {
            name: client.Counter(
                f"{_PREFIX}_{name}", counter.help, ("reason",) if counter.reasons else (), registry=registry
            )
            for name, counter in COUNTERS.items()
        }
        self._latency = client.Histogram(
            f"{_PREFIX}_operation_seconds",
            "Time of one operation on the database, retries included.",
            ("kind", "outcome"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._breaker = client.Gauge(
            f"{_PREFIX}_breaker_open",
            "Processes whose circuit breaker refuses operations, since the database does not answer.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Have every series there from the start, so that the first event is an increase."""
        for name, counter in COUNTERS.items():
            for reason in counter.reasons:
                self._counters[name].labels(reason)
        for kind in KINDS:
            for outcome in OUTCOMES:
                self._latency.labels(kind, outcome)

    def add(self, name: str, amount: int, reason: str | None) -> None:
        counter = self._counters[name]
        (counter if reason is None else counter.labels(reason)).inc(amount)

    def timed(self, seconds: float, kind: str, outcome: str) -> None:
        self._latency.labels(kind, outcome).observe(seconds)

    def breaker(self, *, tripped: bool) -> None:
        self._breaker.set(tripped)


class _DatabaseCollector(Collector):
    """Leaves out what it could not ask: an absent value is better than a stale one."""

    def __init__(self, figures: CachedFigures) -> None:
        self._figures = figures

    def describe(self) -> t.Iterable[client.Metric]:
        """Without asking the database."""
        return _families().values()

    def collect(self) -> t.Iterable[client.Metric]:
        figures, families = self._figures.get(), _families()
        if figures is not None:
            families["live"].add_metric((), figures.live)
        if figures is not None and figures.sweep is not None:
            families["last_sweep_timestamp_seconds"].add_metric((), figures.sweep["at"].timestamp())
            families["last_sweep_duration_seconds"].add_metric((), figures.sweep["seconds"])
            families["last_sweep_removed"].add_metric((), figures.sweep["count"])

        return families.values()


def _families() -> dict[str, GaugeMetricFamily]:
    helps = {
        "live": "Live sessions in the database, estimated beyond 10,000.",
        "last_sweep_timestamp_seconds": "When a worker last removed expired sessions.",
        "last_sweep_duration_seconds": "How long that took.",
        "last_sweep_removed": "How many it removed.",
    }
    return {name: GaugeMetricFamily(f"{_PREFIX}_{name}", text) for name, text in helps.items()}
