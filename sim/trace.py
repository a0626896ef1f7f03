"""What happened, as a hash that two runs of one seed share and as stories of single nodes, replicas and streams.

`World` adds every step and every fact. The hash is over times and contents, so it also differs where only an order or a
message's bytes differ. Stories are short rings: the last things that happened to whoever a violation is about.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque

from .network import Arrived
from .observed import Fact
from .packets import Publish

STORY_LINES_MAX = 14
STORIES_MAX = 50_000
FACTS_MAX = 1_000_000
_TIME = struct.Struct("<d").pack


class Trace:
    """The record of one run."""

    def __init__(self, *, keeps_facts: bool = False) -> None:
        """`keeps_facts` for `--record` and for plots."""
        self._hash = hashlib.blake2b(digest_size=16)
        self._stories: dict[str, deque[tuple[float, Fact]]] = {}
        self.facts: list[tuple[float, Fact]] = []
        self.keeps_facts = keeps_facts

    def step(self, now_s: float, actor: str, event: object) -> None:
        """Add something that happened."""
        if type(event) is Arrived:
            packet = event.packet
            if type(packet) is Publish:
                parts = (_TIME(now_s), actor.encode(), packet.topic.encode(), packet.payload)
                self._hash.update(b"".join(parts))
                return
            event = packet
        self._hash.update(_TIME(now_s) + actor.encode() + type(event).__name__.encode())

    def fact(self, now_s: float, fact: Fact) -> None:
        """Add something true."""
        for key in fact.about:
            story = self._stories.get(key)
            if story is None:
                if len(self._stories) >= STORIES_MAX:
                    continue
                story = self._stories[key] = deque(maxlen=STORY_LINES_MAX)
            story.append((now_s, fact))
        if self.keeps_facts and len(self.facts) < FACTS_MAX:
            self.facts.append((now_s, fact))

    def mentioned(self, text: str) -> tuple[str, ...]:
        """Whoever has a story and is named in a sentence."""
        return tuple(word for word in text.replace(",", " ").replace(";", " ").split() if word in self._stories)

    def story(self, keys: tuple[str, ...]) -> list[str]:
        """The last facts about any of these, oldest first, each once."""
        found: dict[int, tuple[float, Fact]] = {}
        for key in keys:
            for now_s, fact in self._stories.get(key, ()):
                found[id(fact)] = (now_s, fact)
        lines = sorted(found.values(), key=lambda line: line[0])[-STORY_LINES_MAX:]
        return [f"{now_s:10.3f} s  {told(fact)}" for now_s, fact in lines]

    def digest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()


def told(fact: Fact) -> str:
    """A fact in one line: its name and what it says."""
    fields = {name: getattr(fact, name) for name in all_slots(type(fact))}
    return f"{type(fact).__name__} " + " ".join(f"{name}={_short(value)}" for name, value in fields.items())


def all_slots(kind: type) -> list[str]:
    """Names of the fields of a slotted dataclass, inherited ones first."""
    return [name for base in reversed(kind.__mro__) for name in getattr(base, "__slots__", ())]


def _short(value: object) -> str:
    text = f"{len(value)} entries" if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
