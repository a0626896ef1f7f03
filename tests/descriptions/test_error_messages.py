"""What people are told about a wrong description, word by word: place, path, what is wrong, what was expected.

The cases stand in `wrong_components.txt` and `wrong_documents.txt`: YAML, then each message after an arrow.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.load import load_body, load_text

APPLICATION = """
apiVersion: shoal.dev/v1
kind: Application
metadata: {name: digits}
spec:
  components:
    - name: a
      inference: {model: digits}
"""
"""Eight lines; what a case adds to the component begins on line 9."""


@dataclass(frozen=True)
class Case:
    """A wrong text and all that is said about it."""

    text: str
    messages: tuple[str, ...]


def cases(name: str) -> list[Case]:
    blocks = (Path(__file__).parent / name).read_text(encoding="utf-8").split("\n\n")[1:]
    lines = [block.strip().splitlines() for block in blocks]
    return [
        Case(
            "\n".join(line for line in block if not line.startswith("→ ")),
            tuple(line.removeprefix("→ ") for line in block if line.startswith("→ ")),
        )
        for block in lines
    ]


def told(text: str, file: str) -> tuple[str, ...]:
    with pytest.raises(DescriptionError) as raised:
        load_text(text, file=file)
    return tuple(str(error) for error in raised.value.all)


@pytest.mark.parametrize("case", cases("wrong_components.txt"), ids=lambda case: case.text)
def test_a_wrong_component(case: Case) -> None:
    assert told(APPLICATION + textwrap.indent(case.text, "      "), "app.yaml") == case.messages


@pytest.mark.parametrize("case", cases("wrong_documents.txt"), ids=lambda case: case.text.splitlines()[-1])
def test_a_wrong_document(case: Case) -> None:
    assert told(case.text, "x.yaml") == case.messages


def test_all_errors_of_all_documents_are_told_at_once() -> None:
    text = f"{APPLICATION}      replicas: x\n      qos: 3\n---\nkind: Nod\n---\nkind: Nod\n"
    with pytest.raises(DescriptionError) as raised:
        load_text(text, file="app.yaml")
    assert [(error.line, error.path) for error in raised.value.all] == [
        (9, "spec.components[0].replicas"),
        (10, "spec.components[0].qos"),
        (12, "kind"),
        (14, "kind"),
    ]


def test_a_mention_is_matched_with_the_components_there_are() -> None:
    text = f"{APPLICATION}      interactions: [{{to: fliter}}]\n    - {{name: filter, process: {{command: [cat]}}}}\n"
    with pytest.raises(DescriptionError) as raised:
        load_text(text, file="app.yaml")
    assert raised.value.nearest == "filter"


def test_a_request_body_is_told_with_line_and_column() -> None:
    body = textwrap.dedent("""\
        {
          "apiVersion": "shoal.dev/v1",
          "kind": "Node",
          "metadata": {"name": "n"},
          "spec": {"layer": "edgy"}
        }""")
    with pytest.raises(DescriptionError) as raised:
        load_body(body.encode())
    assert str(raised.value) == (
        "<input>:5:21: spec.layer: 'edgy' is not allowed; "
        "expected one of cloud, edge-infrastructure, edge, far-edge; did you mean 'edge'?"
    )


def test_snake_case_is_not_a_second_spelling() -> None:
    with pytest.raises(DescriptionError) as raised:
        load_text(f"{APPLICATION}      single_instance: true\n")
    assert raised.value.nearest == "singleInstance"


def test_a_huge_value_makes_no_huge_message() -> None:
    with pytest.raises(DescriptionError) as raised:
        load_text(f"{APPLICATION}      replicas: {'x' * 10_000}\n      {'k' * 1000}: 1\n")
    assert all(len(str(error)) < 1000 for error in raised.value.all)
