"""Metrics for OpenTelemetry, through ``opentelemetry-api``; where they go is the SDK's business."""

from __future__ import annotations

import datetime as dt
import typing as t

from flask import Flask

try:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter
except ImportError as error:
    raise ImportError(
        "flask_mongo_session.contrib.metrics.opentelemetry needs the package 'opentelemetry-api': "
        "pip install 'flask-mongoengine-session[metrics]'"
    ) from error

from flask_mongo_session import __version__

from .events import BUCKETS, COUNTERS, Recorder, store_of
from .figures import CachedFigures

__all__ = ["OpenTelemetryMetrics"]

_PREFIX = "mongo_session"
Read = t.Callable[[CachedFigures], float | None]


class OpenTelemetryMetrics:
    """The metrics of one application, as instruments of an OpenTelemetry meter.

    :param app: an application with :class:`MongoSession`; raises :exc:`SetupError` without it.
    :param meter_provider: the global one unless given.
    :param rejected: whether rejected cookies are counted, which has every page verify the cookie's signature.
    :param seconds: the live sessions and the last sweep are asked for at most once per so many seconds and process.
    """

    def __init__(
        self,
        app: Flask,
        *,
        meter_provider: MeterProvider | None = None,
        rejected: bool = True,
        seconds: float = 15.0,
    ) -> None:
        meter = get_meter("flask_mongo_session", __version__, meter_provider)
        _observe_gauges(meter, CachedFigures(store_of(app), seconds))
        Recorder(app, _Instruments(meter), rejected=rejected)


class _Instruments:
    def __init__(self, meter: Meter) -> None:
        self._counters = {
            name: meter.create_counter(f"{_PREFIX}.{name}", "{session}", counter.help)
            for name, counter in COUNTERS.items()
        }
        self._latency = meter.create_histogram(
            f"{_PREFIX}.operation.duration",
            "s",
            "Time of one operation on the database, retries included.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def add(self, name: str, amount: int, reason: str | None) -> None:
        self._counters[name].add(amount, {} if reason is None else {"reason": reason})

    def timed(self, seconds: float, kind: str, outcome: str) -> None:
        self._latency.record(seconds, {"kind": kind, "outcome": outcome})

    def breaker(self, *, tripped: bool) -> None:
        """It is looked at when somebody collects."""


def _observe_gauges(meter: Meter, figures: CachedFigures) -> None:
    gauges: dict[str, tuple[str, str, Read]] = {
        "live": ("{session}", "Live sessions in the database, estimated beyond 10,000.", _live),
        "breaker.open": ("1", "1 while this process's circuit breaker refuses operations.", _breaker),
        "last_sweep.time": ("s", "When a worker last removed expired sessions (UTC, since 1970).", _swept_at),
        "last_sweep.duration": ("s", "How long that took.", lambda figures: _sweep(figures).get("seconds")),
        "last_sweep.removed": ("{session}", "How many it removed.", lambda figures: _sweep(figures).get("count")),
    }
    for name, (unit, text, read) in gauges.items():
        meter.create_observable_gauge(f"{_PREFIX}.{name}", [_callback(read, figures)], unit, text)


def _callback(read: Read, figures: CachedFigures) -> t.Callable[[CallbackOptions], t.Iterable[Observation]]:
    """An unknown value is not reported."""

    def observe(_options: CallbackOptions) -> t.Iterable[Observation]:
        value = read(figures)
        return [] if value is None else [Observation(value)]

    return observe


def _live(figures: CachedFigures) -> int | None:
    found = figures.get()
    return found.live if found else None


def _breaker(figures: CachedFigures) -> int:
    return int(figures.tripped)


def _swept_at(figures: CachedFigures) -> float | None:
    at: dt.datetime | None = _sweep(figures).get("at")
    return at.timestamp() if at else None


def _sweep(figures: CachedFigures) -> dict[str, t.Any]:
    found = figures.get()
    return (found.sweep if found else None) or {}
