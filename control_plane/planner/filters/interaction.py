"""Required latency and bandwidth between components that talk: each replica has one of the other side within reach.

Toward a component that this one calls, one replica within reach is enough. From a component that calls this one,
every replica must find one within reach, so while some have none, each new replica must serve its share of them. A
pair of nodes that no link covers is out of reach: a target that can't be known to hold does not hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ....descriptions.kinds.application import Interaction
from ....descriptions.units import BANDWIDTH, DURATION
from ....policies.node_table import BoolArray, IntArray
from ....policies.view import Reach
from ..constraint import Constraint, Constraints, Question, everywhere
from ..explanation import Failure


@dataclass(frozen=True)
class Limits:
    """What an interaction needs of the network."""

    latency_s: float | None
    bandwidth_bps: float | None

    def met(self, reach: Reach) -> BoolArray:
        """Which nodes are within reach."""
        met = np.ones(reach.rtt_s.shape, dtype=np.bool_)
        if self.latency_s is not None:
            met &= reach.rtt_s <= self.latency_s
        if self.bandwidth_bps is not None:
            met &= reach.bandwidth_bps >= self.bandwidth_bps
        return met

    def told(self, reach: Reach, row: int) -> str:
        """How far one node is from meeting them."""
        rtt_s, bandwidth_bps = float(reach.rtt_s[row]), float(reach.bandwidth_bps[row])
        told = []
        if self.latency_s is not None and not rtt_s <= self.latency_s:
            told.append(f"{_shown_rtt(rtt_s)}, over {DURATION.format(self.latency_s)}")
        if self.bandwidth_bps is not None and not bandwidth_bps >= self.bandwidth_bps:
            told.append(f"{_shown_bandwidth(bandwidth_bps)}, under {BANDWIDTH.format(self.bandwidth_bps)}")
        return " and ".join(told)


@dataclass(frozen=True)
class Calls(Constraint):
    """A replica of the component that this one calls is within reach."""

    name: str
    other: str
    limits: Limits

    def mask(self, question: Question) -> BoolArray:
        rows = np.unique(question.siblings_of(self.other))
        if not rows.size:
            return everywhere(question, True)
        mask = everywhere(question, False)
        for row in rows:
            mask |= self.limits.met(question.table.network.reach(int(row)))
        return mask

    def failure(self, question: Question, row: int) -> Failure | None:
        if self.mask(question)[row]:
            return None
        rows = np.unique(question.siblings_of(self.other))
        return _out_of_reach(self.name, question, row, rows, self.limits, f"to the nearest {self.other}")


@dataclass(frozen=True)
class CalledBy(Constraint):
    """The replicas that call this component and have none within reach are served by its share of them."""

    name: str
    other: str
    limits: Limits

    def mask(self, question: Question) -> BoolArray:
        callers, share = self._to_serve(question)
        if not callers.size:
            return everywhere(question, True)
        return self._served(question, callers) >= share

    def failure(self, question: Question, row: int) -> Failure | None:
        callers, share = self._to_serve(question)
        if not callers.size or int(self._served(question, callers)[row]) >= share:
            return None
        return _out_of_reach(
            self.name, question, row, np.unique(callers), self.limits, f"from the nearest {self.other}"
        )

    def _to_serve(self, question: Question) -> tuple[IntArray, int]:
        """Rows of the callers that count, one entry a replica, and how many of them a node must reach."""
        callers = question.siblings_of(self.other)
        own = question.siblings_of(question.component.name)
        unserved = [row for row in callers if not self._reach_any(question, int(row), own)]
        if not unserved:
            return callers, min(1, callers.size)
        return np.array(unserved, dtype=np.int64), math.ceil(len(unserved) / max(1, question.left))

    def _served(self, question: Question, callers: IntArray) -> IntArray:
        served = np.zeros(len(question.table.nodes), dtype=np.int64)
        for row, count in zip(*np.unique(callers, return_counts=True), strict=True):
            served += self.limits.met(question.table.network.reach(int(row))) * count
        return served

    def _reach_any(self, question: Question, row: int, others: IntArray) -> bool:
        return bool(others.size) and bool(self.limits.met(question.table.network.reach(row))[others].any())


def interaction(question: Question, into: Constraints) -> None:
    """Required targets of both sides."""
    own = question.component.name
    for one in question.component.interactions:
        if _binds(one):
            into.narrowing.append(Calls(f"interaction {one.to}", one.to, Limits(one.latency, one.bandwidth)))
    for other, one in question.relations.called_by.get(own, ()):
        if _binds(one):
            into.moving.append(CalledBy(f"interaction {other}", other, Limits(one.latency, one.bandwidth)))


def _binds(one: Interaction) -> bool:
    return one.required and (one.latency is not None or one.bandwidth is not None)


def _out_of_reach(name: str, question: Question, row: int, others: IntArray, limits: Limits, which: str) -> Failure:
    network, names = question.table.network, question.table.nodes.names
    reaches = [(int(other), network.reach(int(other))) for other in others]
    known = [pair for pair in reaches if math.isfinite(pair[1].rtt_s[row]) or pair[1].bandwidth_bps[row] > 0]
    if not known:
        ends = ", ".join(names[other] for other, _ in reaches[:3])
        return Failure(name, f"no link {which} ({ends}) is described", f"describe a link between it and {ends}")
    other, reach = min(known, key=lambda pair: (_rtt_or_inf(pair[1], row), names[pair[0]]))
    reason = limits.told(reach, row) or "reaches too few of them"
    return Failure(
        name, f"{which} ({names[other]}): {reason}", "place a replica closer, or relax the interaction's target"
    )


def _rtt_or_inf(reach: Reach, row: int) -> float:
    rtt_s = float(reach.rtt_s[row])
    return rtt_s if rtt_s == rtt_s else math.inf


def _shown_rtt(rtt_s: float) -> str:
    return f"{DURATION.format(rtt_s)} of round trip" if rtt_s == rtt_s else "round trip not described"


def _shown_bandwidth(bandwidth_bps: float) -> str:
    return (
        f"{BANDWIDTH.format(bandwidth_bps)} of bandwidth"
        if bandwidth_bps == bandwidth_bps
        else "bandwidth not described"
    )
