"""Explanations in words: the sentence or two that answer "why here?" and "why not there?", and the smallest change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .explanation import Failure, NodeExplanation
from .snapshot import Need
from .summary import listed, replicas, why_not


def about_node(need: Need, node: NodeExplanation, feasible: int, would_choose: Sequence[str]) -> str:
    """Why a component is or isn't on one node."""
    name = node.node
    runs = f"{name} runs {replicas(node.running)} of {need.key}" if node.running else ""
    hint = f" To change that: {node.change}." if node.change else ""
    if not node.feasible:
        reasons = "; ".join(f"{failure.constraint}: {failure.reason}" for failure in node.failures)
        stays = f"{runs}, which stay until something moves them, but it" if runs else name
        return f"{stays} can't take a replica of {need.key}: {reasons}.{hint}"
    place = f"ranks {node.rank} of {feasible} with {node.total:.3f}"
    if node.chosen:
        would = f" and would be chosen for {replicas(node.chosen)} again" if runs else ""
        return f"{runs}: it {place}{would}." if runs else f"{name} would be chosen for {need.key}: it {place}."
    others = listed(would_choose) if would_choose else "no node"
    if runs:
        return f"{runs}; if all were decided again now, it {place} and {others} would be chosen before it.{hint}"
    return f"{name} could take a replica of {need.key}; it {place}, and {others} would be chosen before it.{hint}"


def about_all(
    need: Need, nodes: Sequence[NodeExplanation], would_choose: Sequence[str], counts: Mapping[str, int]
) -> str:
    """Why a component is where it is."""
    able = sum(node.feasible for node in nodes)
    if not would_choose:
        closest = next((node for node in nodes if node.change), None)
        hint = f" Closest is {closest.node}: {closest.change}." if closest else ""
        return f"No node can take a replica of {need.key}: {why_not(counts, len(nodes))}.{hint}"
    told = f"{able} of {len(nodes)} nodes can take a replica of {need.key}; {listed(would_choose)} would be chosen"
    short = need.count - len(would_choose)
    return f"{told}, and {replicas(short)} would find no node." if short else f"{told}."


def change_for(failures: Sequence[Failure], first_count: int | None) -> str:
    """What would bring a replica to a node: lift all that it fails, or want enough replicas for its rank."""
    changes = list(dict.fromkeys(failure.change for failure in failures))
    if failures:
        return " and ".join(changes) if all(changes) else ""
    return f"raise replicas to {first_count}" if first_count is not None else ""
