"""Units: what people write becomes a number once, and every number has one text that gives it back."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from shoal.descriptions import units
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.quantities import Bandwidth, Bytes, Cores, Duration, Energy, Frequency, Power
from shoal.descriptions.units import UNITS, Unit

READ = [
    ("cores", "250m", 0.25),
    ("cores", "2", 2.0),
    ("cores", "1.5", 1.5),
    ("bytes", "64Mi", 64 * 2**20),
    ("bytes", "1G", 10**9),
    ("bytes", "512", 512),
    ("bytes", "1.5Gi", 3 * 2**29),
    ("duration", "20ms", 0.02),
    ("duration", "1.5s", 1.5),
    ("duration", "5m", 300.0),
    ("duration", "1h", 3600.0),
    ("duration", "0s", 0.0),
    ("duration", "250us", 0.00025),
    ("frequency", "1.4GHz", 1.4e9),
    ("frequency", "800MHz", 8e8),
    ("bandwidth", "10Mbps", 1e7),
    ("bandwidth", "10Mbit/s", 1e7),
    ("power", "1.2kW", 1200.0),
    ("energy", "20Wh", 20.0),
    ("energy", "1kWh", 1000.0),
]

CANONICAL = [
    ("cores", 0.25, "250m"),
    ("cores", 2.0, "2"),
    ("bytes", 2**26, "64Mi"),
    ("bytes", 10**9, "1G"),
    ("bytes", 1_000_001, "1000001"),
    ("duration", 0.02, "20ms"),
    ("duration", 90.0, "90s"),
    ("duration", 300.0, "5m"),
    ("duration", 0.0, "0s"),
    ("frequency", 1.4e9, "1.4GHz"),
    ("bandwidth", 1e7, "10Mbps"),
    ("power", 5.0, "5W"),
    ("energy", 1000.0, "1kWh"),
]

REFUSED = [
    ("duration", "5", "'5' has no unit"),
    ("duration", "", "'' is not a duration"),
    ("duration", "1 s", "'1 s' is not a duration"),
    ("duration", "٣s", "'٣s' is not a duration"),
    ("duration", "1e3s", "'1e3s' is not a duration"),
    ("duration", "1.s", "'1.s' is not a duration"),
    ("duration", "40000d", "'40000d' is more than 36500d"),
    ("duration", "0.1ns", "'0.1ns' is less than the smallest step, 1ns"),
    ("bytes", "64mb", "'64mb' has the unknown unit 'mb'"),
    ("bytes", "9223372036854775808", "'9223372036854775808' is more than 9223372036854775807"),
    ("cores", "-1", "'-1' is negative"),
    ("cores", "NaN", "'NaN' is not a number of cores"),
    ("bandwidth", "10mbps", "'10mbps' has the unknown unit 'mbps'"),
]


@pytest.mark.parametrize(("name", "text", "value"), READ, ids=str)
def test_reads(name: str, text: str, value: float) -> None:
    assert UNITS[name].parse(text) == value


@pytest.mark.parametrize(("name", "value", "text"), CANONICAL, ids=str)
def test_writes_the_canonical_text(name: str, value: float, text: str) -> None:
    assert UNITS[name].format(value) == text
    assert UNITS[name].parse(text) == value


@pytest.mark.parametrize(("name", "text", "message"), REFUSED, ids=str)
def test_refuses(name: str, text: str, message: str) -> None:
    with pytest.raises(DescriptionError) as raised:
        UNITS[name].parse(text)
    assert raised.value.message == message
    assert raised.value.expected == UNITS[name].expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, 1e300])
def test_refuses_numbers_that_are_no_quantity(value: float) -> None:
    with pytest.raises(DescriptionError):
        units.CORES.check(value)


@given(st.sampled_from(sorted(UNITS)), st.data())
@settings(max_examples=300)
def test_every_value_has_a_text_that_gives_it_back(name: str, data: st.DataObject) -> None:
    unit: Unit = UNITS[name]
    steps = data.draw(st.integers(0, unit.steps_max))
    value = unit.check(steps / unit.steps_per_unit if unit.steps_per_unit > 1 else steps)
    assert unit.parse(unit.format(value)) == value
    assert unit.format(unit.parse(unit.format(value))) == unit.format(value)


@given(st.sampled_from(sorted(UNITS)), st.floats(min_value=0, allow_nan=False, allow_infinity=False))
@settings(max_examples=300)
def test_any_float_is_held_to_the_step_or_refused(name: str, value: float) -> None:
    unit: Unit = UNITS[name]
    try:
        held = unit.check(value)
    except DescriptionError:
        assert value > unit.steps_max / unit.steps_per_unit or value < 1 / unit.steps_per_unit
        return
    assert unit.check(held) == held
    assert unit.parse(unit.format(held)) == held
    assert abs(held - value) <= max(1 / unit.steps_per_unit, value * 1e-15)


def test_any_text_is_read_or_refused(count_case: Callable[[], None]) -> None:
    @given(
        st.sampled_from(sorted(UNITS)),
        st.text(max_size=40) | st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{0,15})?[a-zA-Z/]{0,6}"),
    )
    @settings(max_examples=500)
    def read_or_refuse(name: str, text: str) -> None:
        count_case()
        told, value = "", 0.0
        try:
            value = UNITS[name].parse(text)
        except DescriptionError as error:
            told = str(error)
        assert len(told) < 200
        assert 0 <= value <= UNITS[name].steps_max

    read_or_refuse()


class Everything(BaseModel):
    """One field of each quantity."""

    cores: Cores = 0.5
    size: Bytes = 1024
    wait: Duration = Field(default=5.0, gt=0)
    clock: Frequency = 1e9
    line: Bandwidth = 1e6
    draw: Power = 5.0
    charge: Energy = 20.0


def test_types_write_canonical_text_and_read_it_back() -> None:
    everything = Everything()
    assert everything.model_dump(mode="json") == {
        "cores": "0.5",
        "size": "1Ki",
        "wait": "5s",
        "clock": "1GHz",
        "line": "1Mbps",
        "draw": "5W",
        "charge": "20Wh",
    }
    assert Everything.model_validate_json(everything.model_dump_json(), strict=True) == everything


def test_types_keep_numbers_in_python() -> None:
    assert Everything(cores=0.1 + 0.2).model_dump()["cores"] == 0.3


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        ('{"cores": 2}', True),
        ('{"cores": 0.5}', True),
        ('{"size": 512}', True),
        ('{"size": 1.5}', False),
        ('{"size": true}', False),
        ('{"wait": 5}', False),
        ('{"wait": "0s"}', False),
        ('{"draw": 5}', False),
        ('{"cores": null}', False),
        ('{"cores": [1]}', False),
    ],
)
def test_types_take_bare_numbers_only_where_the_unit_is_obvious(body: str, is_right: bool) -> None:
    if is_right:
        Everything.model_validate_json(body, strict=True)
    else:
        with pytest.raises(ValidationError):
            Everything.model_validate_json(body, strict=True)


def test_types_have_a_json_schema() -> None:
    assert TypeAdapter(Cores).json_schema() == {
        "anyOf": [{"type": "string", "pattern": units.CORES.pattern}, {"type": "number", "minimum": 0}]
    }
    assert TypeAdapter(Duration).json_schema() == {"type": "string", "pattern": units.DURATION.pattern}
