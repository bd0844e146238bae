"""What is counted, in Prometheus' terms. No label ever holds an address, a token or a user ID."""

from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

REQUESTS = Counter("identity_server_requests_total", "HTTP requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "identity_server_request_seconds",
    "How long an answer took",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
MESSAGES = Counter("identity_server_messages_total", "Mails and SMS handed over", ["medium", "outcome"])
PEER_ALARMS = Counter("identity_server_peer_alarms_total", "Peers that contradicted what they had signed", ["peer"])
TASKS = Counter("identity_server_tasks_total", "Durable tasks run", ["kind", "outcome"])


def exposition(folder: Path | None) -> Response:
    """What has been counted by this process, or by all that count in ``folder``."""
    if folder is None:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]  # the library has no types here
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
