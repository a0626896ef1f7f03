"""Topics and filters as trees, level by level, so that finding who hears what does not look at everybody.

`broker.py` keeps two: one of subscriptions, asked with a topic, and one of retained topics, asked with a filter
(MQTT 3.1.1, section 4.7). Answers come in the order in which things were put in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeVar

V = TypeVar("V")


@lru_cache(maxsize=65536)
def levels_of(path: str) -> tuple[str, ...]:
    """The levels of a topic or filter."""
    return tuple(path.split("/"))


@dataclass
class _Node(Generic[V]):
    below: dict[str, _Node[V]] = field(default_factory=dict)
    values: dict[int, V] = field(default_factory=dict)
    """By number: each value has one place."""


@dataclass
class TopicTree(Generic[V]):
    """Values under paths; the same path may have many."""

    _root: _Node[V] = field(default_factory=_Node)
    _number: int = 0
    _heard: dict[str, list[V]] = field(default_factory=dict)
    """Answers of `hearing` since the last change."""

    def put(self, path: str, value: V) -> int:
        """Add a value; the number is for `remove`."""
        node = self._root
        for level in levels_of(path):
            node = node.below.setdefault(level, _Node())
        self._heard.clear()
        self._number += 1
        node.values[self._number] = value
        return self._number

    def remove(self, path: str, number: int) -> None:
        """Take a value away; branches that end nowhere go with it."""
        self._heard.clear()
        trail: list[tuple[_Node[V], str]] = []
        node = self._root
        for level in levels_of(path):
            trail.append((node, level))
            node = node.below[level]
        del node.values[number]
        for parent, level in reversed(trail):
            child = parent.below[level]
            if child.values or child.below:
                return
            del parent.below[level]

    def hearing(self, topic: str) -> list[V]:
        """Where the paths are filters: the values whose filter covers the topic."""
        found = self._heard.get(topic)
        if found is None:
            found = self._heard[topic] = _in_order(self._covering(self._root, levels_of(topic), 0))
        return found

    def covered(self, topic_filter: str) -> list[V]:
        """Where the paths are topics: the values whose topic the filter covers."""
        return _in_order(self._below(self._root, levels_of(topic_filter), 0))

    def _covering(self, node: _Node[V], levels: tuple[str, ...], place: int) -> Iterator[tuple[int, V]]:
        rest = node.below.get("#")
        if rest is not None:
            yield from rest.values.items()
        if place == len(levels):
            yield from node.values.items()
            return
        for level in (levels[place], "+"):
            child = node.below.get(level)
            if child is not None:
                yield from self._covering(child, levels, place + 1)

    def _below(self, node: _Node[V], levels: tuple[str, ...], place: int) -> Iterator[tuple[int, V]]:
        if place == len(levels):
            yield from node.values.items()
            return
        if levels[place] == "#":
            yield from node.values.items()
            for child in node.below.values():
                yield from self._below(child, levels, place)
            return
        children = node.below.values() if levels[place] == "+" else (node.below.get(levels[place]),)
        for found in children:
            if found is not None:
                yield from self._below(found, levels, place + 1)


def _in_order(found: Iterator[tuple[int, V]]) -> list[V]:
    return [value for _, value in sorted(found, key=lambda item: item[0])]
