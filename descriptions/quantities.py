"""Turns the units of `units.py` into pydantic types, for kinds alone; the agent never imports this module.

JSON and YAML carry a quantity as text (a bare number only where its unit is obvious); code may also give the number in
the Python unit. JSON output is the canonical text, so a kind that is dumped and loaded again is equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeGuard

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .errors import DescriptionError
from .units import BANDWIDTH, BYTES, CORES, DURATION, ENERGY, FREQUENCY, POWER, Unit


@dataclass(frozen=True)
class Quantity:
    """Annotation that makes a `float` or `int` field read and write one unit."""

    unit: Unit

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The number's own schema stays inside, so that Field(gt=0) and the like hold on the parsed value.
        return core_schema.with_info_before_validator_function(
            self._read,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self.unit.format, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        text = {"type": "string", "pattern": self.unit.pattern}
        if handler.mode == "serialization" or not self.unit.bare:
            return text
        return {"anyOf": [text, {"type": "integer" if self.unit is BYTES else "number", "minimum": 0}]}

    def _is_number(self, value: object) -> TypeGuard[float]:
        return isinstance(value, int) or (isinstance(value, float) and self.unit is not BYTES)

    def _read(self, value: object, info: core_schema.ValidationInfo[Any]) -> float:
        try:
            if isinstance(value, str):
                return self.unit.parse(value)
            if self._is_number(value) and (self.unit.bare or info.mode == "python"):
                return self.unit.check(value)
        except DescriptionError as error:
            raise PydanticCustomError(
                "quantity", "{told}", {"told": error.message, "expected": error.expected}
            ) from None
        is_bare = isinstance(value, int | float) and not self.unit.bare
        told = f"{value!r:.40} has no unit" if is_bare else f"this is not {self.unit.name}"
        raise PydanticCustomError("quantity", "{told}", {"told": told, "expected": self.unit.expected})


Cores = Annotated[float, Quantity(CORES)]
"""Cores as a float: `250m`, `2`."""

Bytes = Annotated[int, Quantity(BYTES)]
"""Bytes as an int: `64Mi`, `1G`, `512`."""

Duration = Annotated[float, Quantity(DURATION)]
"""Seconds as a float: `20ms`, `1.5s`, `5m`, `1h`, `0s`."""

Frequency = Annotated[float, Quantity(FREQUENCY)]
"""Hertz as a float: `1.4GHz`."""

Bandwidth = Annotated[float, Quantity(BANDWIDTH)]
"""Bits per second as a float: `10Mbps`; `10Mbit/s` is read too."""

Power = Annotated[float, Quantity(POWER)]
"""Watts as a float: `5W`, `1.2kW`."""

Energy = Annotated[float, Quantity(ENERGY)]
"""Watt-hours as a float: `20Wh`, `1kWh`."""
