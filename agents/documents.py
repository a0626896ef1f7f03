"""Large desired documents: the message on the wire names a URL on the control plane, the sealed document is there.

Called by `agent.py` for `FetchDesired`. The bytes are verified exactly as those off the wire are, and must be the
document that the message announced. Blocking: call in a thread.
"""

from __future__ import annotations

import http.client

from ..descriptions.errors import ProtocolError, TransportError
from ..descriptions.messages.desired import Desired
from ..descriptions.signing import ENVELOPE_MAX, KeyRing
from ..mechanisms.transfer.origin import Origins
from .slots import DOCUMENT_MAX, open_desired

TIMEOUT_S = 20.0


def fetch_desired(announced: Desired, origins: Origins, keys: KeyRing, topic: str) -> tuple[Desired, bytes]:
    """The document and its sealed bytes. `ShoalError` says why it cannot be had, or is not what was announced."""
    address = origins.address(announced.url)
    if not address.is_control_plane:
        raise ProtocolError("a document is only fetched from the control plane itself")
    connection = origins.connect(address, TIMEOUT_S)
    try:
        connection.request("GET", address.target, headers=origins.authorization(address))
        response = connection.getresponse()
        if response.status != 200:
            raise TransportError(f"the control plane answers {response.status} for the document")
        sealed = response.read(DOCUMENT_MAX + ENVELOPE_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(f"{address.host}:{address.port}: {error}") from error
    finally:
        connection.close()
    desired = open_desired(keys, sealed, topic)
    wanted = (announced.epoch, announced.generation, announced.digest)
    if desired.spec is None or (desired.epoch, desired.generation, desired.digest) != wanted:
        raise ProtocolError("another document is at the URL than was announced")
    return desired, sealed
