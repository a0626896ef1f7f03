"""The page `docs/descriptions.md`: what it shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.kinds import KINDS, Application
from shoal.descriptions.kinds.application import ApplicationSpec, Component, Placement
from shoal.descriptions.kinds.running import InferenceRun, ProcessRun, Resources
from shoal.descriptions.load import load_text
from shoal.descriptions.units import UNITS

PAGE = (Path(__file__).parents[2] / "docs" / "descriptions.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_load() -> None:
    *right, _ = blocks("yaml")
    assert [one.key for text in right for one in load_text(text)] == [("Node", "edge-1"), ("Application", "quayside")]


def test_the_complete_application_is_complete() -> None:
    _, text, _ = blocks("yaml")
    (one,) = load_text(text)
    assert isinstance(one.kind, Application)
    detector, camera = one.kind.spec.components
    assert one.kind.spec.model_fields_set == set(ApplicationSpec.model_fields)
    assert detector.model_fields_set | camera.model_fields_set == set(Component.model_fields) - {"container"}
    assert detector.placement.model_fields_set == set(Placement.model_fields) - {"colocate"}
    assert detector.resources.model_fields_set == set(Resources.model_fields)
    assert detector.inference
    assert detector.inference.model_fields_set == set(InferenceRun.model_fields)
    assert camera.process
    assert camera.process.model_fields_set == set(ProcessRun.model_fields)


def test_the_errors_are_those_that_are_told() -> None:
    wrong = blocks("yaml")[-1]
    with pytest.raises(DescriptionError) as raised:
        load_text(wrong, file="app.yaml")
    assert "\n".join(str(error) for error in raised.value.all) == blocks("text")[0].strip()


def test_every_kind_and_every_unit_is_listed() -> None:
    assert set(re.findall(r"^\| ([A-Z]\w+) \|", PAGE, re.MULTILINE)) == set(KINDS)
    for unit in UNITS.values():
        for suffix in filter(None, unit.suffixes):
            assert f"`{suffix}`" in PAGE
