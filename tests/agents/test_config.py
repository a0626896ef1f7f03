"""`agent.yaml` and its variables: defaults, precedence, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.agents.config import PREFIX, AgentOptions, load_config
from shoal.agents.join import join_nonce, join_token
from shoal.descriptions.errors import DescriptionError, RefusedError
from shoal.descriptions.options import describe


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_defaults_are_safe() -> None:
    options = AgentOptions()
    assert options.gateway.host == "127.0.0.1"
    assert options.control_plane.plain_http is False
    assert options.gateway.predictors == ()
    assert options.mechanisms == {"inference": {}, "process": {}}
    assert options.state.is_absolute()
    assert options.runtime != AgentOptions(state_dir=Path("/elsewhere")).runtime  # two agents on one machine


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: from-file\nlayer: cloud\ngateway: {port: 1}\n")
    options = load_config(path, {"SHOAL_AGENT_NAME": "from-env", "SHOAL_AGENT_GATEWAY_PORT": "2", "HOME": "/"})
    assert (options.node_name, options.layer, options.gateway.port) == ("from-env", "cloud", 2)


def test_described_capacities_have_units(tmp_path: Path) -> None:
    path = write(tmp_path, "inventory: {cpu: 250m, memory: 64Mi, accelerators: [{type: gpu, memory: 2Gi}]}")
    found = load_config(path, {}).inventory
    assert (found.cpu, found.memory) == (0.25, 64 << 20)
    assert found.accelerators is not None
    assert found.accelerators[0].memory == 2 << 30


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nam: x", "agent.yaml:1:1: nam: unknown key 'nam'; did you mean 'name'?"),
        ("gateway: {port: 99999}", "gateway.port"),
        ("name: Upper Case", "is not a node name"),
        ("name: -x", "is not a node name"),
        (f"runtimeDir: /{'x' * 120}", "too long for Unix sockets"),
        ("outbox: {quota: 5 parsecs}", "outbox.quota"),
        ("a: 1\n---\nb: 2", "more than one document"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        load_config(write(tmp_path, text), {})
    assert told in str(caught.value)


def test_a_variable_that_means_nothing_is_an_error() -> None:
    with pytest.raises(DescriptionError, match="SHOAL_AGENT_NAME"):
        load_config(None, {"SHOAL_AGENT_NAM": "x"})


def test_every_key_is_documented() -> None:
    undocumented = [row.key for row in describe(AgentOptions, PREFIX) if not row.doc]
    assert undocumented == []


def test_the_token_is_never_shown() -> None:
    options = load_config(None, {"SHOAL_AGENT_CONTROL_PLANE_TOKEN": "sj1.secret"})
    assert join_token(options.control_plane) == "sj1.secret"
    assert not any("sj1" in row.default for row in describe(AgentOptions, PREFIX))
    assert "sj1.secret" not in repr(options.control_plane)


@pytest.mark.parametrize("content", [None, b"", b"  \n"])
def test_without_a_token_joining_is_refused_with_advice(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RefusedError, match="no join token"):
        join_token(load_config(write(tmp_path, f"controlPlane: {{tokenFile: {path}}}"), {}).control_plane)
    with pytest.raises(RefusedError, match="shoal token create"):
        join_token(AgentOptions().control_plane)


def test_the_nonce_is_the_same_until_the_node_has_joined(tmp_path: Path) -> None:
    first = join_nonce(tmp_path)
    assert (len(first), join_nonce(tmp_path)) == (32, first)
    assert (tmp_path / "join-nonce").stat().st_mode & 0o777 == 0o600
