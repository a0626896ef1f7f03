"""What every kind has: the frozen model it is built from, its metadata, conditions and the choice of nodes by label."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

API_VERSION: Literal["shoal.dev/v1"] = "shoal.dev/v1"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_./]{0,251}[A-Za-z0-9])?$", max_length=253)
]
PluginName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$", max_length=63)]
LabelValue = Annotated[str, StringConstraints(max_length=253)]

_NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{1,18})?")

FAULTS_MAX = 50
"""Faults told of one part; a document of 256 KiB could have 100,000."""


class Fault(NamedTuple):
    """Something wrong between the fields of one part of a kind."""

    message: str
    """What is wrong; never the whole of a value."""
    at: tuple[str | int, ...] = ()
    """Where, from that part on, in the words of YAML."""
    expected: str = ""
    """Completes "expected …"."""
    word: str = ""
    """A word that may be misspelt, with …"""
    choices: Collection[str] = ()
    """… the words that it may have meant."""


class Frozen(BaseModel):
    """An immutable part of a description: unknown keys are errors, YAML keys are the camelCase of the Python names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
        allow_inf_nan=False,
    )

    def faults(self) -> Iterator[Fault]:
        """What is wrong between fields that are each right; every fault is told, not only the first."""
        return iter(())

    @model_validator(mode="after")
    def _without_faults(self) -> Self:
        if faults := tuple(islice(self.faults(), FAULTS_MAX)):
            told = "; ".join(fault.message for fault in faults)
            raise PydanticCustomError("faults", "{told}", {"told": told, "faults": faults})
        return self


class Layer(StrEnum):
    """Where in the continuum a node stands."""

    CLOUD = "cloud"
    EDGE_INFRASTRUCTURE = "edge-infrastructure"
    EDGE = "edge"
    FAR_EDGE = "far-edge"


class Metadata(Frozen):
    """Identity and annotations of an object; the fields below `annotations` are written by the control plane."""

    name: Name
    """Unique within the kind and slice."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=64)
    """Short facts to select by."""
    annotations: dict[LabelKey, Annotated[str, StringConstraints(max_length=65536)]] = Field(
        default_factory=dict, max_length=64
    )
    """Notes for people and tools; nothing selects by them."""
    uid: str | None = Field(default=None, max_length=64)
    """Minted at creation, never reused."""
    resource_version: int | None = Field(default=None, ge=0)
    """Changes at each write; give it back to write only over what was read."""
    generation: int | None = Field(default=None, ge=0)
    """Counts changes of the spec."""
    created: str | None = Field(default=None, max_length=40)
    """RFC 3339 time of creation."""


class Condition(Frozen):
    """One aspect of an object's state, in the form of Kubernetes conditions."""

    type: str = Field(max_length=63)
    """The aspect, in one CamelCase word: Ready, DiskPressure, …"""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str = Field(default="", max_length=128)
    """One CamelCase word for programs."""
    message: str = Field(default="", max_length=4096)
    """A sentence for people, with what to do next where something is wrong."""
    since: str | None = Field(default=None, max_length=40)
    """RFC 3339 time of the last change of `status`."""


class LabelOperator(StrEnum):
    """How a label is compared; as in Kubernetes node affinity."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelRequirement(Frozen):
    """One condition on a node's labels; several are joined by *and*."""

    key: LabelKey
    """Of the label."""
    operator: LabelOperator = LabelOperator.IN
    """How the label is compared with the values."""
    values: tuple[LabelValue, ...] = Field(default=(), max_length=64)
    """For `In` and `NotIn` at least one, for `Gt` and `Lt` exactly one number, for the others none."""

    def faults(self) -> Iterator[Fault]:
        count = len(self.values)
        if self.operator in (LabelOperator.IN, LabelOperator.NOT_IN):
            if count == 0:
                yield Fault(f"{self.operator} without values", ("values",), "at least one value")
        elif self.operator in (LabelOperator.GT, LabelOperator.LT):
            if count != 1 or not _NUMBER.fullmatch(self.values[0]):
                yield Fault(f"{self.operator} compares with a number", ("values",), "exactly one number, quoted")
        elif count:
            yield Fault(f"{self.operator} takes no values", ("values",), "no values")


class Relation(StrEnum):
    """How a measured value must stand to its target for the target to be met."""

    LOWER_OR_EQUAL = "lowerOrEqual"
    LOWER_THAN = "lowerThan"
    GREATER_OR_EQUAL = "greaterOrEqual"
    GREATER_THAN = "greaterThan"
    EQUAL = "equal"


class PluginUse(Frozen):
    """Chooses a plugin among the enabled names and fills its options."""

    use: PluginName
    """Name under which the plugin is registered."""
    weight: float = Field(default=1.0, ge=0, le=1000)
    """Factor of its scaled score among the other policies."""
    options: dict[str, object] = Field(default_factory=dict, max_length=64)
    """Checked against the fields of the plugin's dataclass."""


def repeated(names: Iterable[str], at: tuple[str | int, ...], key: str) -> Iterator[Fault]:
    """A fault for each entry of the list `at` whose `key` was there before; `names` are the keys in order."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        before = first.setdefault(name, index)
        if before != index:
            yield Fault(f"{name!r} is there already, at {at[-1]}[{before}]", (*at, index, key), f"another {key}")
