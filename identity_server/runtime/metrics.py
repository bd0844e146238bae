"""What is counted, in Prometheus' terms. No label ever holds an address, a token or a user ID."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, make_asgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp

REQUESTS = Counter("identity_server_requests_total", "HTTP requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "identity_server_request_seconds",
    "How long an answer took",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
MESSAGES = Counter("identity_server_messages_total", "Mails and SMS handed over", ["medium", "outcome"])
TASKS = Counter("identity_server_tasks_total", "Durable tasks run", ["kind", "outcome"])


def metrics_application(folder: Path | None) -> ASGIApp:
    """GET /metrics: of this process, or of all that count in ``folder``."""
    if folder is None:
        return make_asgi_app()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return make_asgi_app(registry)
