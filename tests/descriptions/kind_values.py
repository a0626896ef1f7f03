"""Hypothesis makes what may stand at a place of a kind from its own types; repaired where fields must agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from shoal.descriptions.kinds import KINDS
from shoal.descriptions.quantities import Quantity
from shoal.descriptions.wording import Spot, spot

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def bound(one: Spot, name: str, otherwise: Any) -> Any:
    return next((found for item in one.constraints if (found := getattr(item, name, None)) is not None), otherwise)


def written(one: Spot) -> st.SearchStrategy[Any]:
    """Values as YAML has them, for a spot."""
    first, *others = one.options
    return st.one_of([written_one(first), *map(written_one, others)])


def written_one(only: Spot) -> st.SearchStrategy[Any]:
    """As `written`, for a spot that is no union."""
    if quantity := next((item.unit for item in only.constraints if isinstance(item, Quantity)), None):
        per_unit = quantity.steps_per_unit
        least, most = bound(only, "ge", 0) * per_unit, bound(only, "le", None)
        steps = st.integers(int(least), quantity.steps_max if most is None else int(most * per_unit))
        return steps.map(lambda n: quantity.format(n / per_unit if per_unit > 1 else n))
    if only.choices:
        return st.sampled_from(only.choices)
    arguments = get_args(only.type)
    if isinstance(only.type, type) and issubclass(only.type, BaseModel):
        return model_values(only.type)
    if arguments and get_origin(only.type) is tuple:
        least = bound(only, "min_length", 0)
        return st.lists(written(spot(arguments[0])), min_size=least, max_size=least + 1)
    if arguments and get_origin(only.type) is dict:
        return st.dictionaries(written(spot(arguments[0])), written(spot(arguments[1])), max_size=2)
    return scalars(only)


def scalars(one: Spot) -> st.SearchStrategy[Any]:
    if one.type is bool:
        return st.booleans()
    if one.type is int:
        return st.integers(bound(one, "ge", -100), bound(one, "le", 100))
    if one.type is float:
        least, most = bound(one, "ge", bound(one, "gt", -1e6)), bound(one, "le", 1e6)
        return st.floats(least, most, exclude_min=bound(one, "gt", None) is not None)
    if one.type is object:
        return PLAIN
    longest = bound(one, "max_length", 12)
    if pattern := bound(one, "pattern", None):
        return st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True).filter(lambda text: len(text) <= longest)
    assert one.type in (str, SecretStr), one
    return st.text(TEXT_CHARACTERS, min_size=bound(one, "min_length", 0), max_size=min(longest, 12))


TEXT_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
REPAIRS: dict[str, Callable[[dict[str, Any]], None]] = {}


def model_values(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, info in model.model_fields.items():
        part = st.deferred(lambda info=info: written(spot(info.annotation, tuple(info.metadata))))  # type: ignore[misc]
        (required if info.is_required() or name in ("api_version", "kind") else optional)[info.alias or name] = part
    return st.fixed_dictionaries(required, optional=optional).map(lambda value: repaired(model, value))


def repaired(model: type[BaseModel], value: dict[str, Any]) -> dict[str, Any]:
    """Makes fields that are each right fit each other."""
    if repair := REPAIRS.get(model.__name__):
        repair(value)
    return value


def repairs(function: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    REPAIRS[function.__name__] = function
    return function


def renamed(items: list[dict[str, Any]], key: str = "name") -> None:
    for index, item in enumerate(items):
        item[key] = f"{key}-{index}"


@repairs
def LabelRequirement(value: dict[str, Any]) -> None:
    operator = value.get("operator", "In")
    value["values"] = {"In": ["a"], "NotIn": ["a", "b"], "Gt": ["-1.5"], "Lt": ["10"]}.get(operator, [])


@repairs
def Timings(value: dict[str, Any]) -> None:
    value.pop("lease", None)
    value["heartbeat"] = "250ms"


@repairs
def Location(value: dict[str, Any]) -> None:
    if len({"latitude", "longitude"} & value.keys()) == 1:
        value |= {"latitude": 1.5, "longitude": -2}


@repairs
def PowerSource(value: dict[str, Any]) -> None:
    value["windows"] = ["22:00-06:00"]


@repairs
def PowerProfile(value: dict[str, Any]) -> None:
    value["max"] = value.get("idle", "1W")
    renamed(value.get("sources", []))


@repairs
def NodeSpec(value: dict[str, Any]) -> None:
    value.pop("reservedCpu", None)
    value.pop("reservedMemory", None)
    for index, link in enumerate(value.get("network", [])):
        link["to"] = f"node:n{index}"


@repairs
def ContainerRun(value: dict[str, Any]) -> None:
    renamed(value.get("ports", []))
    for port in value.get("ports", []):
        port.pop("port", None)


@repairs
def ProcessRun(value: dict[str, Any]) -> None:
    ContainerRun(value)
    if value.get("readiness"):
        value["ports"] = [{"name": value["readiness"]["port"], "port": 80}]


@repairs
def Scaling(value: dict[str, Any]) -> None:
    value.pop("min", None)


@repairs
def ComponentValue(value: dict[str, Any]) -> None:
    for other in ("inference", "process", "container"):
        value.pop(other, None)
    value |= {"process": {"command": ["cat"]}} if len(value) % 2 else {"inference": {"model": "m"}}
    value.pop("singleInstance", None)


@repairs
def ApplicationSpec(value: dict[str, Any]) -> None:
    renamed(value["components"])
    for component in value["components"]:
        others = [other["name"] for other in value["components"] if other is not component]
        component["interactions"] = [{"to": other} for other in others]
        placement = component.get("placement", {})
        placement.pop("colocate", None)
        for affinity in (*placement.get("affinity", []), *placement.get("antiAffinity", [])):
            affinity["component"] = others[0] if others else component["name"]
        if not others:
            placement.pop("affinity", None)


@repairs
def ModelSource(value: dict[str, Any]) -> None:
    value.pop("url", None)
    value["file"] = "model.onnx"


@repairs
def ModelSpec(value: dict[str, Any]) -> None:
    value.pop("predictor", None)
    value |= {"source": {"file": "m"}} if value["format"] != "python" else {"predictor": "m:M"}
    renamed(value.get("inputs", []))
    renamed(value.get("outputs", []))


REPAIRS |= {"Component": ComponentValue, "Failover": Timings}
KIND_VALUES = {name: model_values(model) for name, model in KINDS.items()}
