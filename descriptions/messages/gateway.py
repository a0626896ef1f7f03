"""What an agent and its node's inference gateway say to each other: JSON over the gateway's Unix socket.

`mechanisms/inference.py` sends these, `agents/inference/gateway/admin.py` answers them; `docs/inference.md` lists the
routes. Bodies of `PUT /admin/routes/{model}` are `lease.Routes` as they arrive on `_/routes/<model>`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .codec import Message

ServingPhase = Literal["loading", "ready", "broken", "stopped"]
"""`stopped` is a replica that drains after DELETE; it vanishes when its worker has ended."""


class GatewayFile(Message, frozen=True, omit_defaults=False):
    """`DIR/gateway.json`: how to find and recognise the gateway that runs in DIR."""

    pid: int
    start_time: int
    """Field 22 of `/proc/<pid>/stat` (clock ticks since boot): tells a reused pid."""
    http: str
    """`http://127.0.0.1:8080`."""
    admin: str
    """Path of the admin socket."""
    inference: str
    """Path of the Unix socket with the public routes."""
    version: str


class GatewayHealth(Message, frozen=True, omit_defaults=False):
    """Answer of `GET /admin/health`."""

    pid: int
    version: str
    http: str
    uptime_s: float
    replicas: int
    ready: int
    pss_mib: float
    """The gateway process alone."""
    zygotes: dict[str, int] = {}
    """Runtime → pid."""


class ServingSpec(Message, frozen=True):
    """Body of `PUT /admin/replicas/{id}`: what one replica serves, and how."""

    model: str
    path: str
    """Absolute path of the model file (or of a predictor's file or folder)."""
    plugin: str
    """`onnx`, `litert`, `python`, or an enabled plugin by entry point."""
    version: str = "1"
    digest: str = ""
    """Of the model file; told back in reports. The gateway doesn't compute it."""
    options: dict[str, msgspec.Raw] = {}
    """The plugin's options, camelCase."""
    device: str = "cpu"
    env: dict[str, str] = {}
    """Added to the worker's environment after the fork."""
    memory_limit_mib: int | None = None
    """Address space that the worker may add to what it has at its start (RLIMIT_AS)."""
    request_timeout_s: float = 30.0
    """Longest time in the worker; a request over it gets 504 and the worker is killed as hung."""
    load_timeout_s: float = 120.0
    in_flight_max: int = 4
    """Requests handed to the worker ahead of its answers; more wait in the gateway, safe from its death."""
    queue_max: int = 256
    """Waiting requests; more get 503 with Retry-After."""


class LatencyBucket(Message, frozen=True, omit_defaults=False):
    """Requests that took at most `le_ms` and more than the bucket before."""

    le_ms: float
    count: int


class ServingStats(Message, frozen=True, omit_defaults=False):
    """Of one replica. Totals count from its first PUT; the rest is over the last `window_s`."""

    requests: int = 0
    """Answered, failures included."""
    failures: int = 0
    """Answered 5xx."""
    rejected: int = 0
    """Answered 4xx."""
    in_flight: int = 0
    queue: int = 0
    """Waiting for any replica of the same model and version."""
    window_s: float = 60.0
    requests_per_s: float = 0.0
    latency_ms_p50: float = 0.0
    """From the last byte of the request to the first of the answer; within 12 % (bucket width)."""
    latency_ms_p95: float = 0.0
    latency_ms_p99: float = 0.0
    latency_ms: tuple[LatencyBucket, ...] = ()
    """Empty buckets are left out."""
    latency_ms_total: tuple[LatencyBucket, ...] = ()
    """The same since the first PUT, so that telemetry can tell any window."""
    latency_ms_sum: float = 0.0
    """Of all requests in `latency_ms_total`."""


class ServingUpdate(Message, frozen=True):
    """A newer specification of a replica that is not serving yet; the older one goes on."""

    version: str
    digest: str
    phase: ServingPhase
    reason: str = ""


class ServingReport(Message, frozen=True, omit_defaults=False):
    """Answer of `GET /admin/replicas/{id}`: what serves now."""

    id: str
    model: str
    version: str
    digest: str
    plugin: str
    device: str
    """What the worker runs on; may differ from the device asked for, then `reason` says why."""
    phase: ServingPhase
    reason: str
    since: str
    """RFC 3339 time of the last change of phase."""
    pid: int
    """0 when there is no worker."""
    pss_mib: float
    restarts: int
    stats: ServingStats
    update: ServingUpdate | None = None


class ServingReports(Message, frozen=True, omit_defaults=False):
    """Answer of `GET /admin/replicas`, sorted by id."""

    replicas: tuple[ServingReport, ...] = ()


class GatewayRefusal(Message, frozen=True, omit_defaults=False):
    """Every answer of the admin API with a status of 400 or more."""

    error: str
