"""Whether labels meet requirements, with the rules of Kubernetes node affinity.

For single objects, such as the nodes that a Mechanism selects; the planner compares whole columns on its own.
Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .kinds.meta import LabelOperator, LabelRequirement


def matches(requirements: Iterable[LabelRequirement], labels: Mapping[str, str]) -> bool:
    """True when every requirement is met; none at all are met by anything."""
    return all(_is_met(requirement, labels.get(requirement.key)) for requirement in requirements)


def _is_met(requirement: LabelRequirement, value: str | None) -> bool:
    match requirement.operator:
        case LabelOperator.IN:
            return value in requirement.values
        case LabelOperator.NOT_IN:
            return value not in requirement.values
        case LabelOperator.EXISTS:
            return value is not None
        case LabelOperator.DOES_NOT_EXIST:
            return value is None
        case LabelOperator.GT | LabelOperator.LT:
            return _compare(requirement, value)


def _compare(requirement: LabelRequirement, value: str | None) -> bool:
    try:
        found, bound = float(value or ""), float(requirement.values[0])
    except (ValueError, IndexError):
        return False
    return found > bound if requirement.operator is LabelOperator.GT else found < bound
