"""Options and configuration: read from values, files and the environment, refused in words, described for people."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from shoal.descriptions.document import Document
from shoal.descriptions.errors import DescriptionError
from shoal.descriptions.options import (
    configure,
    describe,
    dump_options,
    option,
    options_of,
    options_schema,
    read_options,
    unit,
)
from shoal.descriptions.yaml import dump_yaml, load_yaml


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Server:
    """Where it listens."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = option(7400, doc="Port; 0 takes any free one.", ge=0, le=65535)


@dataclass(frozen=True)
class Settings:
    """Everything that options can be."""

    name: str
    """Of the node."""
    server: Server = Server()
    lease_s: float = option(30.0, unit="duration", key="lease", ge=1)
    """How long a node may be silent."""
    backoff_s: Annotated[float, unit("duration")] = 0.5
    memory: int = option(1 << 20, unit="bytes")
    share: float = option(0.5, gt=0, le=1)
    colour: Colour = Colour.RED
    mode: Literal["fast", "safe"] = "safe"
    level: Literal[1, 2] = 1
    tags: tuple[str, ...] = ()
    ports: tuple[int, ...] = option((), ge=1)
    rates: dict[str, Annotated[float, unit("duration")]] = option(factory=dict)  # noqa: RUF009
    limit: int | None = None
    wait: Annotated[float, unit("duration")] | Literal["never"] = "never"
    folder: Path = Path("/var/lib/shoal")
    token: str = option("", secret=True)
    is_open: bool = False
    anything: Any = None
    servers: tuple[Server, ...] = ()

    def __post_init__(self) -> None:
        if self.is_open and self.server.host != "127.0.0.1":
            raise ValueError("open to everyone; bind to loopback or close it")


GIVEN = {
    "name": "a", "server": {"port": 1}, "lease": "5m", "backoffS": "20ms", "memory": "64Mi", "share": 1,
    "colour": "blue", "mode": "fast", "level": 2, "tags": ["x"], "ports": [80, 443], "rates": {"cpu": "1s"}, "limit": 3,
    "wait": "2s", "folder": "/tmp", "token": "t", "isOpen": True, "anything": {"a": [1]}, "servers": [{"host": "h"}],
}  # fmt: skip
READ = Settings(
    name="a", server=Server(port=1), lease_s=300.0, backoff_s=0.02, memory=64 << 20, share=1.0, colour=Colour.BLUE,
    mode="fast", level=2, tags=("x",), ports=(80, 443), rates={"cpu": 1.0}, limit=3, wait=2.0,
    folder=Path("/tmp"), token="t", is_open=True, anything={"a": [1]}, servers=(Server(host="h"),),
)  # fmt: skip

WRONG = [
    ({"nam": 1, "name": "a"}, "nam: unknown key 'nam'; did you mean 'name'?"),
    ({}, "name: required and missing; expected text"),
    ({"name": 3}, "name: 3 is an integer; expected text"),
    ({"server": []}, "server: a list; expected a mapping"),
    ({"server": {"prot": 1}}, "server.prot: unknown key 'prot'; did you mean 'port'?"),
    ({"server": {"wheels": 1}}, "server.wheels: unknown key 'wheels'; expected one of host, port"),
    ({"server": {"port": 70000}}, "server.port: 70000 is not allowed; expected an integer from 0 to 65535"),
    ({"server": {"port": True}}, "server.port: true is true or false; expected an integer from 0 to 65535"),
    ({"server": {"port": 1.5}}, "server.port: 1.5 is a number with a fraction; expected an integer from 0 to 65535"),
    ({"lease": 5}, "lease: 5 has no unit; expected a duration such as 20ms, 1.5s, 5m or 1h, at least 1s"),
    ({"lease": "1ms"}, "lease: '1ms' is not allowed; expected a duration such as 20ms, 1.5s, 5m or 1h, at least 1s"),
    ({"leaseS": "5s"}, "leaseS: unknown key 'leaseS'; did you mean 'lease'?"),
    ({"memory": "1X"}, "memory: '1X' has the unknown unit 'X'; expected a number of bytes such as 64Mi, 1G or 512"),
    ({"share": 0}, "share: 0 is not allowed; expected a number over 0, at most 1"),
    ({"share": "x"}, "share: 'x' is text; expected a number over 0, at most 1"),
    ({"colour": "Blue"}, "colour: 'Blue' is not allowed; expected one of red, blue; did you mean 'blue'?"),
    ({"mode": None}, "mode: null is not allowed; expected one of fast, safe"),
    ({"level": True}, "level: true is not allowed; expected one of 1, 2"),
    ({"tags": "x"}, "tags: 'x' is text; expected a list"),
    ({"ports": [1, 0]}, "ports[1]: 0 is not allowed; expected an integer, at least 1"),
    (
        {"rates": {"cpu": "fast"}},
        "rates.cpu: 'fast' is not a duration; expected a duration such as 20ms, 1.5s, 5m or 1h",
    ),
    ({"limit": "x"}, "limit: 'x' is text; expected an integer"),
    ({"wait": "nver"}, "wait: 'nver' is not allowed; expected a duration such as 20ms, 1.5s, 5m or 1h or never"),
    ({"folder": ""}, "folder: empty; expected a path"),
    ({"token": 8714}, "token: not readable; expected text"),
    ({"isOpen": "yes"}, "isOpen: 'yes' is text; expected true or false"),
    ({"isOpen": True, "server": {"host": "0.0.0.0"}}, "open to everyone; bind to loopback or close it"),
    ({"servers": [{}, {"port": -1}]}, "servers[1].port: -1 is not allowed; expected an integer from 0 to 65535"),
]


def told(read: Callable[[], object]) -> list[str]:
    with pytest.raises(DescriptionError) as raised:
        read()
    return [str(error) for error in raised.value.all]


def test_every_type_is_read() -> None:
    assert read_options(Settings, GIVEN) == READ


def test_left_out_is_the_default() -> None:
    assert read_options(Settings, {"name": "a"}) == Settings(name="a")


@pytest.mark.parametrize(("value", "message"), WRONG, ids=[json.dumps(value) for value, _ in WRONG])
def test_wrong_options_are_told(value: dict[str, object], message: str) -> None:
    value = value if "required" in message else {"name": "a"} | value
    assert told(lambda: read_options(Settings, value)) == [message]


def test_everything_wrong_is_told_at_once_with_its_place() -> None:
    (document,) = load_yaml("plugin:\n  name: 1\n  shar: 2\n  server:\n    port: x\n", file="agent.yaml")
    assert [error.split(": ")[0] for error in told(lambda: read_options(Settings, document, ("plugin",)))] == [
        "agent.yaml:3:3",
        "agent.yaml:2:9",
        "agent.yaml:5:11",
    ]


def test_what_is_dumped_is_read_back() -> None:
    dumped = dump_options(READ)
    assert dumped["lease"] == "5m"
    assert dumped["token"] == "**********"
    assert read_options(Settings, dumped | {"token": "t"}) == READ
    (document,) = load_yaml(dump_yaml(dumped))
    assert document.value == dumped


def test_the_environment_wins_over_the_file() -> None:
    env = {
        "SHOAL_AGENT_NAME": "b",
        "SHOAL_AGENT_SERVER_PORT": "81",
        "SHOAL_AGENT_LEASE": "1m",
        "SHOAL_AGENT_MEMORY": "2Mi",
        "SHOAL_AGENT_SHARE": "0.25",
        "SHOAL_AGENT_LEVEL": "2",
        "SHOAL_AGENT_TAGS": "x, y",
        "SHOAL_AGENT_PORTS": "[1, 2]",
        "SHOAL_AGENT_RATES": '{"cpu": "5s"}',
        "SHOAL_AGENT_LIMIT": "",
        "SHOAL_AGENT_IS_OPEN": "on",
        "SHOAL_AGENT_SERVERS": '[{"port": 5}]',
        "SHOAL_TOKEN": "another program's",
        "HOME": "/root",
    }
    document = Document({"name": "a", "server": {"host": "127.0.0.1"}, "limit": 4, "mode": "fast"})
    assert configure(Settings, document, env, prefix="SHOAL_AGENT") == Settings(
        name="b", server=Server("127.0.0.1", 81), lease_s=60.0, memory=2 << 20, share=0.25, level=2, tags=("x", "y"),
        ports=(1, 2), rates={"cpu": 5.0}, limit=None, is_open=True, mode="fast", servers=(Server(port=5),),
    )  # fmt: skip


def test_a_wrong_variable_is_blamed_by_its_name() -> None:
    env = {
        "SHOAL_AGENT_NAME": "a",
        "SHOAL_AGENT_SERVER_PORT": "x",
        "SHOAL_AGENT_PORTS": "1,0",
        "SHOAL_AGENT_IS_OPEN": "maybe",
        "SHOAL_AGENT_LEESE": "1s",
    }
    assert told(lambda: configure(Settings, None, env, prefix="SHOAL_AGENT")) == [
        "environment: SHOAL_AGENT_LEESE: unknown variable; did you mean 'SHOAL_AGENT_LEASE'?",
        "environment: SHOAL_AGENT_SERVER_PORT: 'x' is text; expected an integer from 0 to 65535",
        "environment: SHOAL_AGENT_PORTS: 0 is not allowed; expected an integer, at least 1",
        "environment: SHOAL_AGENT_IS_OPEN: 'maybe' is text; expected true or false",
    ]


def test_every_option_has_a_row() -> None:
    rows = {row.key: row for row in describe(Settings, "SHOAL_AGENT")}
    assert rows["server.host"].doc == "Address to listen on."
    assert rows["server.port"] == rows["server.port"].__class__(
        "server.port", "SHOAL_AGENT_SERVER_PORT", "an integer from 0 to 65535", "7400", "Port; 0 takes any free one."
    )
    assert (rows["lease"].default, rows["lease"].doc) == ("30s", "How long a node may be silent.")
    assert rows["name"].default == "required"
    assert rows["token"].default == "**********"
    assert len(rows) == len(options_of(Settings)) + len(options_of(Server)) - 1


def test_the_schema_says_what_reading_does() -> None:
    schema = options_schema(Settings)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    validator.validate(GIVEN)
    assert not validator.is_valid({})
    assert schema["properties"]["server"]["properties"]["port"] == {
        "type": "integer",
        "minimum": 0,
        "maximum": 65535,
        "default": 7400,
        "description": "Port; 0 takes any free one.",
    }
    assert schema["description"] == "Everything that options can be."


PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1s", "64Mi", "red", "fast"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [one.key for one in options_of(Settings)]


def test_any_values_are_options_or_a_precise_error(count_case: Callable[[], None]) -> None:
    @given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), PLAIN, max_size=4))
    @settings(max_examples=250)
    def read_or_refuse(value: dict[str, object]) -> None:
        count_case()
        try:
            read = read_options(Settings, {"name": "a"} | value)
        except DescriptionError as error:
            messages = [str(one) for one in error.all]
        else:
            messages = []
            assert isinstance(read, Settings)
        assert all(0 < len(message) < 500 for message in messages)

    read_or_refuse()


def test_any_environment_is_a_configuration_or_a_precise_error(count_case: Callable[[], None]) -> None:
    names = [row.env for row in describe(Settings, "S")]

    @given(
        st.dictionaries(
            st.sampled_from(names), st.text(max_size=8) | PLAIN.map(str) | PLAIN.map(json.dumps), max_size=4
        )
    )
    @settings(max_examples=250)
    def read_or_refuse(env: dict[str, str]) -> None:
        count_case()
        try:
            messages, read = [], configure(Settings, None, {"S_NAME": "a"} | env, prefix="S")
        except DescriptionError as error:
            messages, read = [str(one) for one in error.all], None
        assert isinstance(read, Settings) or messages

    read_or_refuse()


def test_a_type_that_yaml_can_not_fill_is_refused_when_it_is_declared() -> None:
    @dataclass(frozen=True)
    class Wrong:
        values: tuple[bytes, ...] = ()

    with pytest.raises(TypeError, match=r"Wrong.values: an option can't be <class 'bytes'>"):
        options_of(Wrong)


def test_reading_configuration_loads_no_pydantic() -> None:
    code = (
        "import sys, shoal.descriptions.options, shoal.descriptions.yaml, shoal.descriptions.signing, "
        "shoal.descriptions.topics, shoal.descriptions.mechanism\n"
        "import importlib, pkgutil, shoal.descriptions.messages as m\n"
        "[importlib.import_module(f'{m.__name__}.{one.name}') for one in pkgutil.iter_modules(m.__path__)]\n"
        "heavy = ('pydantic', 'aiohttp', 'typer', 'rich', 'sqlalchemy', 'numpy', 'grpc')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
