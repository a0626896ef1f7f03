"""What every handler is given beside its call: the store, the services and the server's own state."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ..store.store import Store
from .auth import Authenticator
from .call import Call, Reply
from .limits import ApiLimits, Occupancy
from .measures import Measures
from .route import Route
from .services import Services


@dataclass(frozen=True)
class Context:
    """One server's surroundings."""

    store: Store
    services: Services
    auth: Authenticator
    limits: ApiLimits
    occupancy: Occupancy
    measures: Measures
    routes: tuple[Route[Any], ...]
    """The table, for the routes that show it."""
    now_s: Callable[[], float] = field(default=time.time)
    """Wall clock."""


Handler = Callable[[Context, Call], Awaitable[Reply | web.StreamResponse]]
