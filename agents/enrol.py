"""From a machine to a node: finds the control plane if need be and joins it, again and again until it works.

`run.py` calls it when there is no identity on disk. Being refused ends it (a spent token stays spent), everything else
is tried again with a growing, jittered delay.
"""

from __future__ import annotations

import asyncio
import logging
from random import Random

from .. import __version__
from ..descriptions.errors import ProtocolError, TransportError
from ..descriptions.messages.joining import JoinRequest
from ..descriptions.messages.reported import Inventory
from ..telemetry.backoff import Backoff
from .config import AgentOptions
from .discovery import discover
from .identity import Identity, save_identity
from .join import join, join_nonce, join_token

logger = logging.getLogger(__name__)

RETRY_S = 1.0
RETRY_S_MAX = 60.0
DISCOVER_S = 10.0


async def enrol(options: AgentOptions, inventory: Inventory, rng: Random) -> Identity:
    """The node's identity, saved. Raises `RefusedError` when asking again is pointless."""
    token = join_token(options.control_plane)
    nonce = join_nonce(options.state)
    request = JoinRequest(options.node_name, nonce, inventory, __version__, options.layer)
    backoff = Backoff(RETRY_S, RETRY_S_MAX, rng)
    while True:
        try:
            url = options.control_plane.url or (await discover(options.control_plane.slice, DISCOVER_S)).url
            identity = await asyncio.to_thread(join, url, token, request, options.control_plane)
            save_identity(options.state, identity)
            logger.info("%s joined by %s", identity, url)
            return identity
        except (TransportError, ProtocolError) as error:
            wait_s = backoff.next_s()
            logger.warning("not joined, tried again in %.1f s: %s", wait_s, error)
            await asyncio.sleep(wait_s)
