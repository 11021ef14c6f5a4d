"""Figures for those who watch an application: Prometheus, OpenTelemetry, readiness probes.

::

    from flask_mongo_session.contrib.metrics.prometheus import PrometheusMetrics

    metrics = PrometheusMetrics(app)
    app.add_url_rule("/metrics", view_func=metrics.page)

or :class:`~flask_mongo_session.contrib.metrics.opentelemetry.OpenTelemetryMetrics`. No label ever holds a user, a
session id or anything else that a visitor chooses, so their number is bounded.
"""

from .health import Health, check_health

__all__ = ["Health", "check_health"]
