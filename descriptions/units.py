"""Turns quantities as people write them (`250m`, `64Mi`, `20ms`, `1.4GHz`) into numbers, once, and back into text.

Used by the pydantic types in `quantities.py`, by `options.py` and by the agent, so it imports no pydantic. A quantity
is rounded to a whole count of its unit's smallest step, so every value has one canonical text and
`parse(format(value)) == value` holds exactly. Suffixes follow Kubernetes for cores and bytes and Go for durations:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from .errors import DescriptionError

_NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,12})?"


@dataclass(frozen=True, eq=False, repr=False)
class Unit:
    """One quantity: its suffixes, its smallest step and its range.

    A value is a number of the Python unit (cores, bytes, seconds …) and is held to `steps_per_unit` steps of it: 1000
    for cores kept in millicores. `suffixes` map each canonical suffix to its worth in steps; `aliases` are read but
    never written. The unit is `bare` where a number without a suffix says enough.
    """

    name: str
    example: str
    suffixes: dict[str, int]
    steps_per_unit: int
    steps_max: int
    bare: bool = False
    aliases: tuple[tuple[str, str], ...] = ()

    @cached_property
    def pattern(self) -> str:
        """Regular expression of the texts that `parse` reads, anchored, in the ECMA 262 subset of JSON Schema."""
        words = [word for word in self._worth if word]
        return f"^{_NUMBER}({'|'.join(words)}){'?' if self.bare else ''}$"

    @property
    def expected(self) -> str:
        """Completes "expected …" in an error."""
        return f"{self.name} such as {self.example}"

    def parse(self, text: str) -> float:
        """Read `text`. Raises `DescriptionError` where it isn't this quantity, is negative or is out of range."""
        match = re.fullmatch(rf"(-?{_NUMBER})([^0-9.\s]*)", text)
        if match is None:
            raise self._refused(f"{_shown(text)} is not {self.name}")
        number, suffix = match.groups()
        if suffix not in self._worth:
            what = f"has the unknown unit {_shown(suffix)}" if suffix else "has no unit"
            raise self._refused(f"{_shown(text)} {what}")
        return self._value(Fraction(number) * self._worth[suffix], _shown(text))

    def check(self, value: float) -> float:
        """Take a number that is in the Python unit already, or raise `DescriptionError`."""
        if isinstance(value, bool) or not math.isfinite(value):
            raise self._refused(f"{value} is not {self.name}")
        return self._value(self._steps(value), str(value))

    def format(self, value: float) -> str:
        """The canonical text: the shortest, and of equally short ones the one without a fraction."""
        steps = round(self._steps(value))
        if steps == 0:
            return "0" + next(word for word, worth in self.suffixes.items() if worth == self.steps_per_unit)
        texts = [number + word for word, worth in self.suffixes.items() if (number := _quotient(steps, worth))]
        return min(texts, key=lambda text: (len(text), "." in text))

    @cached_property
    def _worth(self) -> dict[str, int]:
        return self.suffixes | {alias: self.suffixes[word] for alias, word in self.aliases}

    def _steps(self, value: float) -> Fraction:
        # repr is the shortest text that gives the same float: a value that came from whole steps is whole again here.
        return Fraction(repr(value)) * self.steps_per_unit

    def _value(self, steps: Fraction, shown: str) -> float:
        whole = round(steps)
        if steps < 0:
            raise self._refused(f"{shown} is negative")
        if whole > self.steps_max:
            raise self._refused(f"{shown} is more than {self.format(self._number(self.steps_max))}")
        if whole == 0 and steps > 0:
            raise self._refused(f"{shown} is less than the smallest step, {self.format(self._number(1))}")
        return self._number(whole)

    def _number(self, steps: int) -> float:
        return steps if self.steps_per_unit == 1 else steps / self.steps_per_unit

    def _refused(self, message: str) -> DescriptionError:
        return DescriptionError(message, expected=self.expected)


def _quotient(steps: int, worth: int) -> str:
    """`steps / worth` as a plain decimal, or nothing where that needs more than 12 decimals."""
    whole, rest = divmod(steps, worth)
    if rest == 0:
        return str(whole)
    decimals = Fraction(rest, worth) * 10**12
    return f"{whole}.{int(decimals):012d}".rstrip("0") if decimals.denominator == 1 else ""


def _shown(text: str) -> str:
    shown = repr(text[:60])
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


_K, _M, _G, _T, _P = 10**3, 10**6, 10**9, 10**12, 10**15

CORES = Unit("a number of cores", "250m or 2", {"": 1000, "m": 1}, 1000, 10**9, bare=True)
BYTES = Unit(
    "a number of bytes",
    "64Mi, 1G or 512",
    {"Pi": 1 << 50, "P": _P, "Ti": 1 << 40, "T": _T, "Gi": 1 << 30, "G": _G, "Mi": 1 << 20, "M": _M, "Ki": 1 << 10}
    | {"k": _K, "": 1},
    steps_per_unit=1,
    steps_max=(1 << 63) - 1,
    bare=True,
)
DURATION = Unit(
    "a duration",
    "20ms, 1.5s, 5m or 1h",
    {"d": 86_400 * _G, "h": 3_600 * _G, "m": 60 * _G, "s": _G, "ms": _M, "us": _K, "ns": 1},
    steps_per_unit=_G,
    steps_max=36_500 * 86_400 * _G,
)
FREQUENCY = Unit(
    "a frequency", "1.4GHz or 800MHz", {"GHz": _T, "MHz": _G, "kHz": _M, "Hz": _K, "mHz": 1}, _K, 10**6 * _T
)
BANDWIDTH = Unit(
    "a bandwidth",
    "10Mbps or 1Gbps",
    {"Tbps": _T, "Gbps": _G, "Mbps": _M, "kbps": _K, "bps": 1},
    steps_per_unit=1,
    steps_max=_P,
    aliases=(("Tbit/s", "Tbps"), ("Gbit/s", "Gbps"), ("Mbit/s", "Mbps"), ("kbit/s", "kbps"), ("bit/s", "bps")),
)
POWER = Unit("a power", "5W or 1.2kW", {"MW": _G, "kW": _M, "W": _K, "mW": 1}, _K, 10**3 * _G)
ENERGY = Unit("an energy", "20Wh or 1kWh", {"MWh": _G, "kWh": _M, "Wh": _K, "mWh": 1}, _K, 10**6 * _G)

UNITS = {
    "cores": CORES,
    "bytes": BYTES,
    "duration": DURATION,
    "frequency": FREQUENCY,
    "bandwidth": BANDWIDTH,
    "power": POWER,
    "energy": ENERGY,
}


def parse_cores(text: str) -> float:
    """Cores: `250m` is 0.25, `2` is 2.0; kept to millicores."""
    return CORES.parse(text)


def parse_bytes(text: str) -> int:
    """Bytes: `64Mi` is 67108864, `1G` is 10**9; a fraction of a byte is rounded."""
    return int(BYTES.parse(text))


def parse_duration(text: str) -> float:
    """Seconds: `20ms` is 0.02, `5m` is 300.0; kept to nanoseconds."""
    return DURATION.parse(text)


def parse_frequency(text: str) -> float:
    """Hertz: `1.4GHz` is 1.4e9; kept to millihertz."""
    return FREQUENCY.parse(text)


def parse_bandwidth(text: str) -> float:
    """Bits per second: `10Mbps` or `10Mbit/s` is 10e6; kept to whole bits."""
    return float(BANDWIDTH.parse(text))


def parse_power(text: str) -> float:
    """Watts: `1.2kW` is 1200.0; kept to milliwatts."""
    return POWER.parse(text)


def parse_energy(text: str) -> float:
    """Watt-hours: `1kWh` is 1000.0; kept to milliwatt-hours."""
    return ENERGY.parse(text)


def format_cores(cores: float) -> str:
    """Canonical text of a number of cores."""
    return CORES.format(cores)


def format_bytes(size: int) -> str:
    """Canonical text of a number of bytes; exact, so 1000001 stays `1000001`."""
    return BYTES.format(size)


def format_duration(seconds: float) -> str:
    """Canonical text of seconds."""
    return DURATION.format(seconds)


def format_frequency(hertz: float) -> str:
    """Canonical text of hertz."""
    return FREQUENCY.format(hertz)


def format_bandwidth(bits_per_s: float) -> str:
    """Canonical text of bits per second."""
    return BANDWIDTH.format(bits_per_s)


def format_power(watts: float) -> str:
    """Canonical text of watts."""
    return POWER.format(watts)


def format_energy(watt_hours: float) -> str:
    """Canonical text of watt-hours."""
    return ENERGY.format(watt_hours)
