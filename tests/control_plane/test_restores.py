"""Databases that are put back, once and again: nodes always end with the present document."""

from __future__ import annotations

from .harness import Harness
from .kinds import an_app
from .test_core import fleet


def test_a_database_that_was_restored_twice_is_noticed_both_times(world: Harness) -> None:
    """Both restores would lead to one epoch, and to two documents of one order, which a node must refuse."""
    fleet(world, 2)
    backup = dict(world.database), world.version, world.generation, world.epoch
    for name in ("first", "second"):
        world.apply(an_app(name=name, replicas=2))
        world.database, world.version, world.generation, world.epoch = dict(backup[0]), *backup[1:]
        world.issued.clear()
        world.published.clear()
        world.restart()
        world.advance(60.0)
        assert world.running("web") == []
    assert world.epoch > 2
    assert len({(one.desired.epoch, one.desired.generation) for one in world.agents.values() if one.desired}) == 2
    for agent in world.agents.values():
        assert agent.desired is not None
        assert agent.desired.digest == world.core.rows.marks[agent.uid].digest
