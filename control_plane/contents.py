"""Forgets contents that nothing refers to any more: replaced models, and documents that were too large to send.

`run.py` keeps it going beside everything else. A digest that any Model or Revision row mentions is kept, and so is
whatever is younger than a day: it may have been uploaded before the row that will refer to it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from .component_state import REVISION_KIND
from .store.reading import ReadTransaction
from .store.store import Store

logger = logging.getLogger(__name__)

EVERY_S = 3600.0
OLDER_THAN_S = 86_400.0

_DIGEST = re.compile(rb'"([0-9a-f]{64})"')
_REFERRING = ("Model", REVISION_KIND)


@asynccontextmanager
async def contents_swept(store: Store, large: Callable[[], Iterable[str]]) -> AsyncIterator[None]:
    """Sweep every hour while the block lasts; `large` gives the digests of documents that nodes still fetch."""

    async def keep_sweeping() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await sweep(store, large())

    task = asyncio.create_task(keep_sweeping(), name="contents-sweep")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sweep(store: Store, large: Iterable[str], *, older_than_s: float = OLDER_THAN_S) -> int:
    """Remove what nothing refers to; returns how many contents went."""
    wanted = {*large, *await store.read(_referred_to)}
    gone = await asyncio.to_thread(store.blobs.sweep, wanted, older_than_s=older_than_s)
    if gone:
        logger.info(
            "%d contents that nothing refers to are removed, %d bytes", len(gone), sum(one.size for one in gone)
        )
    return len(gone)


def _referred_to(tx: ReadTransaction) -> set[str]:
    """Every digest in a referring row, whatever key it stands under: keeping too much is the safe mistake."""
    return {digest.decode() for kind in _REFERRING for row in tx.all(kind) for digest in _DIGEST.findall(row.doc)}
