"""Tells the loss of a site from the loss of nodes: while most of a site is gone, none of its nodes is replaced.

A cut uplink or a power failure makes a whole datacenter vanish at once. Its workloads run on, or come back with the
power; starting all of them elsewhere would overload what is left, so `membership.py` holds them back, people are told,
and a site that is really gone for good is given up by deleting or draining its nodes. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

STORM_NODES_MIN = 3
"""Fewer nodes than this are never a storm: a site of one or two nodes fails over like any node."""
BUDGET_WINDOW_S = 60.0


@dataclass(frozen=True)
class StormBegan:
    """Most of a site vanished together; its nodes are held."""

    site: str
    vanished: int
    nodes: int


@dataclass(frozen=True)
class StormEnded:
    """Enough of the site is back; what is still away may be replaced."""

    site: str
    missing: int


StormChange = StormBegan | StormEnded


@dataclass
class _Site:
    nodes: set[str] = field(default_factory=set)
    """Uids that count: ready, suspect or lost."""
    missing: dict[str, float] = field(default_factory=dict)
    """Uid → when it went missing, oldest first."""
    storm: set[str] = field(default_factory=set)
    """Held uids; empty while there is no storm."""


@dataclass
class StormBrake:
    """Counts who vanished when, by site."""

    share: float = 0.55
    """A storm is when more than this share of a site vanishes within `window_s`."""
    window_s: float = 240.0
    _sites: dict[str, _Site] = field(default_factory=dict)

    def is_held(self, uid: str) -> bool:
        """True while the node's replicas must not be placed elsewhere."""
        return any(uid in site.storm for site in self._sites.values())

    @property
    def stormy_sites(self) -> tuple[str, ...]:
        """Sites that have a storm now, sorted."""
        return tuple(sorted(name for name, site in self._sites.items() if site.storm))

    def present(self, uid: str, sites: tuple[str, ...]) -> list[StormChange]:
        """The node is there (or there again)."""
        for name in sites:
            site = self._sites.setdefault(name, _Site())
            site.nodes.add(uid)
            site.missing.pop(uid, None)
            site.storm.discard(uid)
        return self._review(sites)

    def vanished(self, uid: str, sites: tuple[str, ...], now_s: float) -> list[StormChange]:
        """The node went missing; again and again is once."""
        for name in sites:
            site = self._sites.setdefault(name, _Site())
            site.nodes.add(uid)
            site.missing.setdefault(uid, now_s)
        return self._review(sites)

    def gone(self, uid: str) -> list[StormChange]:
        """The node counts no more: it left on purpose, was deleted or moved to another site."""
        sites = tuple(sorted(name for name, site in self._sites.items() if uid in site.nodes))
        for name in sites:
            site = self._sites[name]
            site.nodes.discard(uid)
            site.missing.pop(uid, None)
            site.storm.discard(uid)
            if not site.nodes:
                del self._sites[name]
        return self._review(sites)

    def _review(self, sites: tuple[str, ...]) -> list[StormChange]:
        changes = (self._review_site(name, self._sites[name]) for name in sites if name in self._sites)
        return [change for change in changes if change is not None]

    def _review_site(self, name: str, site: _Site) -> StormChange | None:
        if site.storm:
            return self._review_storm(name, site)
        newest_s = next(reversed(site.missing.values()), 0.0)
        together = {uid for uid, at_s in site.missing.items() if at_s >= newest_s - self.window_s}
        if len(together) < STORM_NODES_MIN or len(together) <= self.share * len(site.nodes):
            return None
        site.storm = together
        return StormBegan(name, len(together), len(site.nodes))

    def _review_storm(self, name: str, site: _Site) -> StormChange | None:
        site.storm = set(site.missing)
        if len(site.missing) > self.share * len(site.nodes):
            return None
        site.storm = set()
        return StormEnded(name, len(site.missing))


@dataclass
class EvictionBudget:
    """At most so many replicas are replaced in any minute, whatever happens."""

    per_minute: int = 60
    _spent: deque[float] = field(default_factory=deque)

    def take(self, wanted: int, now_s: float) -> int:
        """Spend up to `wanted`; returns how many may go now."""
        granted = min(wanted, self.left(now_s))
        self._spent.extend([now_s] * granted)
        return granted

    def left(self, now_s: float) -> int:
        """How many may go now."""
        while self._spent and self._spent[0] <= now_s - BUDGET_WINDOW_S:
            self._spent.popleft()
        return max(self.per_minute - len(self._spent), 0)

    def refill_at_s(self) -> float | None:
        """When the next one may go; None when none was spent."""
        return self._spent[0] + BUDGET_WINDOW_S if self._spent else None
