"""Who refers to whom within an application, the other way round than it is written: built once for each description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ..descriptions.kinds.application import Affinity, Application, Component, Interaction

T = TypeVar("T")


@dataclass(frozen=True)
class Relations:
    """By component: what others say of it."""

    called_by: Mapping[str, tuple[tuple[str, Interaction], ...]]
    """Components with an interaction to it."""
    kept_apart_by: Mapping[str, tuple[tuple[str, Affinity], ...]]
    """Other components with an anti-affinity to it."""
    wanted_by: Mapping[str, tuple[str, ...]]
    """Other components that must stand where it stands: colocated, or with a required affinity."""

    def partners(self, component: Component) -> tuple[str, ...]:
        """Components that it calls, then those that call it, each once."""
        if not component.interactions and component.name not in self.called_by:
            return ()
        calls = [one.to for one in component.interactions]
        called_by = [name for name, _ in self.called_by.get(component.name, ())]
        return tuple(dict.fromkeys(name for name in (*calls, *called_by) if name != component.name))


def relations_of(application: Application) -> Relations:
    """Read an application's components."""
    parts = application.spec.components
    return Relations(
        called_by=_grouped((one.to, (part.name, one)) for part in parts for one in part.interactions),
        kept_apart_by=_grouped(
            (one.component, (part.name, one))
            for part in parts
            for one in part.placement.anti_affinity
            if one.component != part.name
        ),
        wanted_by=_grouped((other, part.name) for part in parts for other in sorted(stands_with(part))),
    )


def stands_with(component: Component) -> frozenset[str]:
    """Components that must be placed before this one, because it goes where they are."""
    placement = component.placement
    if not placement.affinity and not placement.colocate:
        return frozenset()
    required = [one.component for one in placement.affinity if one.required]
    return frozenset((*required, *placement.colocate)) - {component.name}


def ranks_of(application: Application) -> dict[str, int]:
    """Place of each component: as described, but after what it must stand with; a circle is broken where it is met."""
    parts = {part.name: part for part in application.spec.components}
    befores = {name: sorted(stands_with(part) & parts.keys()) for name, part in parts.items()}
    ranks: dict[str, int] = {}
    for name in parts:
        _rank(name, befores, ranks, set())
    return ranks


def _rank(name: str, befores: dict[str, list[str]], ranks: dict[str, int], entered: set[str]) -> None:
    """Rank `name` after what comes before it, without recursion: chains may be as long as an application."""
    waiting = [name]
    while waiting:
        last = waiting[-1]
        ahead = [other for other in befores[last] if other not in ranks and other not in entered]
        entered.add(last)
        if ahead:
            waiting.append(ahead[0])
        else:
            ranks.setdefault(waiting.pop(), len(ranks))


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    groups: dict[str, list[T]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in groups.items()}
