"""Kinds: whatever is right comes back from YAML equal, whatever is wrong is refused in words, and nothing crashes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from shoal.descriptions.document import Value
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import KINDS, Application
from shoal.descriptions.kinds.application import Component, InferenceRun
from shoal.descriptions.kinds.meta import Metadata
from shoal.descriptions.load import dump, kind_of, load_text
from shoal.descriptions.wording import PATTERNS, Spot, spot
from shoal.descriptions.yaml import dump_yaml

from .kind_values import KIND_VALUES, PLAIN, bound


def models(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    """`model` and all that it is made of."""
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    yield model
    for info in model.model_fields.values():
        for part in parts(info.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from models(part, seen)


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from parts(inner)


ALL_MODELS = sorted({model for kind in KINDS.values() for model in models(kind)}, key=lambda model: model.__name__)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_comes_back_from_yaml_equal(name: str, count_case: Callable[[], None]) -> None:
    @given(KIND_VALUES[name])
    @settings(max_examples=60)
    def goes_round(value: dict[str, Value]) -> None:
        count_case()
        kind = kind_of(value)
        (back,) = load_text(dump_yaml(value))
        assert back.kind == kind
        if name != "Secret":
            (again,) = load_text(dump_yaml(dump(kind)))
            assert again.kind == kind

    goes_round()


def places(value: Value, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(value: Value, path: tuple[str | int, ...], new: Value) -> Value:
    if not path:
        return new
    value = copy.deepcopy(value)
    inner: Any = value
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = new
    return value


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_spoilt_kind_is_refused_in_words(name: str, count_case: Callable[[], None]) -> None:
    @given(KIND_VALUES[name], PLAIN, st.data())
    @settings(max_examples=100)
    def load_or_refuse(value: dict[str, Any], new: Value, data: st.DataObject) -> None:
        count_case()
        path = data.draw(st.sampled_from(sorted(places(value), key=repr)))
        text = dump_yaml(changed(value, path, new))
        errors: tuple[DescriptionError, ...] = ()
        try:
            load_text(text, file="x.yaml")
        except DescriptionError as raised:
            errors = raised.all
        for error in errors:
            assert error.line is not None, error
            assert error.column is not None
            assert error.file == "x.yaml"
            assert error.message
            assert len(str(error)) < 1500

    load_or_refuse()


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.__name__)
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert [name for name, info in model.model_fields.items() if not info.description] == []


def test_every_pattern_has_words() -> None:
    patterns = {
        pattern
        for model in ALL_MODELS
        for info in model.model_fields.values()
        for one in inner_spots(spot(info.annotation, tuple(info.metadata)))
        if (pattern := bound(one, "pattern", None))
    }
    assert patterns - PATTERNS.keys() == set()
    assert PATTERNS.keys() - patterns == set()


def inner_spots(one: Spot) -> Iterator[Spot]:
    for option in one.options:
        yield option
        for inner in get_args(option.type):
            if not isinstance(inner, str) and inner is not Ellipsis:
                yield from inner_spots(spot(inner))


@pytest.mark.parametrize("model", ALL_MODELS, ids=lambda model: model.__name__)
def test_lists_texts_and_mappings_are_bounded(model: type[BaseModel]) -> None:
    """A description has no part that may grow without limit."""
    unbounded = [
        name
        for name, info in model.model_fields.items()
        for option in spot(info.annotation, tuple(info.metadata)).options
        if (option.type is str or get_origin(option.type) in (tuple, dict))
        and bound(option, "max_length", bound(option, "pattern", None)) is None
    ]
    assert unbounded == []


def test_kinds_are_frozen() -> None:
    kind = Application.model_validate(
        {"metadata": {"name": "a"}, "spec": {"components": [{"name": "c", "process": {"command": ["cat"]}}]}}
    )
    with pytest.raises(ValidationError):
        kind.metadata = Metadata(name="b")


def test_kinds_are_built_in_code_by_their_python_names() -> None:
    component = Component(name="a", inference=InferenceRun(model="m"), single_instance=True)
    assert component.runs == InferenceRun(model="m")
    assert component.replicas_max == 1
    with pytest.raises(ValidationError, match="nothing to run"):
        Component(name="a")
