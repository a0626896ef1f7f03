"""The contract at definition: what a class must override, how its hooks are spelt, what they take."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from shoal.descriptions.errors import PluginError
from shoal.descriptions.kinds.application import Component
from shoal.policies.nearest import Nearest
from shoal.policies.policy import Policy, Rejection, adapts, hooks_of, places, scores
from shoal.policies.view import NodeView, View


def define(**members: Any) -> type[Policy]:
    return type("Mine", (Policy,), {"__module__": __name__, "__annotations__": {}, **members})


def a_filter(self: Policy, component: Component, node: NodeView, view: View) -> Rejection | None:
    return None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "overrides none of filter, score, score_all, analyze, plan"),
        ({"fliter": a_filter}, "'fliter' is no hook of a policy; did you mean 'filter'"),
        ({"distance": a_filter}, "start the names of your own methods with an underscore"),
        ({"filter": lambda self, node: None}, "'filter' takes"),
        ({"filter": staticmethod(a_filter)}, "'filter' must be a plain method"),
        ({"score": property(lambda self: 1.0)}, "'score' must be a plain method"),
        ({"plan": lambda self, assessment, view: ()}, "overrides both analyze and plan"),
    ],
    ids=["nothing", "misspelt", "public method", "arguments", "static", "property", "half an adaptation"],
)
def test_a_class_that_breaks_the_contract_is_refused_at_definition(members: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        define(**members)


def test_a_coroutine_is_no_hook() -> None:
    async def score(self: Policy, component: Component, node: NodeView, view: View) -> float:
        return 1.0

    with pytest.raises(PluginError, match="'score' must be a plain method"):
        define(score=score)


def test_own_methods_with_an_underscore_are_fine() -> None:
    mine = define(filter=a_filter, _distance=a_filter, LIMIT=3)
    assert hooks_of(mine) == {"filter"}
    assert (places(mine), scores(mine), adapts(mine)) == (True, False, False)


def test_a_subclass_inherits_hooks() -> None:
    @dataclass(frozen=True)
    class Nearer(Nearest):
        """As Nearest, with another default."""

        rtt_max: float | None = 0.01

    assert hooks_of(Nearer) == {"filter", "score_all"}
    assert Nearer().rtt_max == 0.01


def test_options_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Nearest().rtt_max = 1.0  # type: ignore[misc]
