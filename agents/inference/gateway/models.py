"""Models by name and version: which pool a request goes to, and what it is told when none can take it.

`serving.py` keeps the pools' workers; `routes.py` submits calls; `patrol.py` takes out those that waited too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from ....descriptions.messages.gateway import ServingSpec
from .pool import Call, Outlook, Pool


@dataclass(eq=False)
class ModelTable:
    """Pools of all models here."""

    queue_s_max: float
    loop: asyncio.AbstractEventLoop
    versions: dict[str, dict[str, Pool]] = field(default_factory=dict)
    """Model → version → pool. A pool is there while a replica's specification or a worker names it."""

    def find(self, model: str, version: str | None) -> Pool | None:
        """Where a request waits or runs; without a version the newest that serves, else the newest there is."""
        versions = self.versions.get(model)
        if versions is None:
            return None
        if version is not None:
            return versions.get(version)
        if len(versions) == 1:
            return next(iter(versions.values()))
        serving = [pool for pool in versions.values() if pool.workers]
        return max(serving or versions.values(), key=lambda pool: _version_key(pool.version))

    def exact(self, spec: ServingSpec) -> Pool | None:
        """The pool of a specification, if it is there."""
        versions = self.versions.get(spec.model)
        return versions.get(spec.version) if versions is not None else None

    def of(self, spec: ServingSpec) -> Pool:
        """The pool of a specification, made where it is missing."""
        versions = self.versions.setdefault(spec.model, {})
        pool = versions.get(spec.version)
        if pool is None:
            pool = versions[spec.version] = Pool(spec.model, spec.version, outlook=Outlook(is_hopeful=False))
        pool.queue_max = spec.queue_max
        return pool

    def submit(self, pool: Pool, call: Call) -> None:
        """Have a call answered by a worker, or refuse it with 503."""
        match pool.submit(call):
            case "hopeless":
                _refuse_hopeless(pool, call)
            case "full":
                message = f"{len(pool.queue)} requests wait for {pool.model!r} already"
                call.exchange.refuse(503, message, retry_after_s=1.0)
            case "dispatched" | "queued":
                pass

    def set_outlook(self, pool: Pool, outlook: Outlook) -> None:
        """Tell those who wait in vain."""
        pool.outlook = outlook
        if not pool.is_promising and not pool.retiring:
            while pool.queue:
                _refuse_hopeless(pool, pool.queue.popleft())

    def reroute(self, pool: Pool) -> None:
        """Calls that left the version to us go to the version that serves now."""
        other = self.find(pool.model, None)
        if other is not None and other is not pool:
            for call in pool.take_unversioned():
                self.submit(other, call)

    def expire(self, now_s: float) -> None:
        """Refuse the calls that have waited too long."""
        for pool in self.pools():
            for call in pool.expired(now_s - self.queue_s_max):
                if not call.is_abandoned:
                    message = f"waited {self.queue_s_max:g} s for a worker of {pool.model!r}"
                    call.exchange.refuse(503, message, retry_after_s=1.0)

    def keep(self, named: set[tuple[str, str]]) -> None:
        """Drop the pools of other models and versions."""
        for pool in [each for each in self.pools() if (each.model, each.version) not in named]:
            del self.versions[pool.model][pool.version]
            if not self.versions[pool.model]:
                del self.versions[pool.model]
            self.set_outlook(pool, Outlook(is_hopeful=False, reason="it is served here no longer"))

    def pools(self) -> Iterator[Pool]:
        """Every pool."""
        for versions in list(self.versions.values()):
            yield from list(versions.values())


def _refuse_hopeless(pool: Pool, call: Call) -> None:
    message = f"model {pool.model!r} is not ready: {pool.outlook.reason}"
    call.exchange.refuse(503, message, retry_after_s=pool.outlook.retry_after_s)


def _version_key(version: str) -> tuple[bool, int, str]:
    """Numbers by value, above words by alphabet."""
    return (version.isdecimal(), int(version) if version.isdecimal() else 0, version)
