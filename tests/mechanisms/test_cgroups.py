"""Groups in a folder that looks like cgroup v2: what is written, and when there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from shoal.mechanisms.cgroups import Cgroups, open_cgroups, set_limits

SERVICE = "system.slice/shoal-agent.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A delegated group with this process in it; plain files take what the kernel would."""
    base = tmp_path / "cgroup" / SERVICE
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (base / "cgroup.procs").write_text("17\n")
    (base / "cgroup.subtree_control").write_text("")
    for name in ("agent", "replicas"):
        (base / name).mkdir()
        (base / name / "cgroup.procs").write_text("")
        (base / name / "cgroup.subtree_control").write_text("")
    (tmp_path / "self").write_text(f"1:name=systemd:/ignored\n0::/{SERVICE}\n")
    return tmp_path


def opened(root: Path) -> Cgroups | None:
    return open_cgroups(root / "cgroup", root / "self")


def test_the_agent_moves_down_and_enables_controllers(root: Path) -> None:
    base = root / "cgroup" / SERVICE
    groups = opened(root)
    assert groups == Cgroups(base / "replicas")
    assert (base / "agent" / "cgroup.procs").read_text() == "17"
    assert (base / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (base / "replicas" / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_a_second_run_finds_its_way_up(root: Path) -> None:
    (root / "self").write_text(f"0::/{SERVICE}/agent\n")
    assert opened(root) == Cgroups(root / "cgroup" / SERVICE / "replicas")


def test_a_group_of_a_replica(root: Path) -> None:
    groups = opened(root)
    assert groups is not None
    path = groups.create("app.part.0-abc", 0.25, 64 << 20)
    assert path is not None
    assert (path / "cpu.max").read_text() == "25000 100000"
    assert (path / "memory.max").read_text() == str(64 << 20)
    (path / "memory.swap.max").write_text("max")
    set_limits(path, 0, 0)
    assert ((path / "cpu.max").read_text(), (path / "memory.max").read_text()) == ("max 100000", "max")
    set_limits(path, 2, 1 << 20)
    assert (path / "memory.swap.max").read_text() == "0"
    groups.remove("app.part.0-abc")  # not empty here: it stays, and nothing fails
    groups.remove("never.there.0")


def test_a_name_cannot_leave_the_folder(root: Path) -> None:
    groups = opened(root)
    assert groups is not None
    path = groups.create("../../escape", 1, 0)
    assert path is not None
    assert path.parent == groups.folder


@pytest.mark.parametrize(
    ("own", "controllers"),
    [
        ("4:memory:/x\n", "cpu memory"),
        ("", "cpu memory"),
        (f"0::/{SERVICE}\n", "cpuset pids"),
        ("0::/gone\n", "cpu memory"),
    ],
    ids=["version 1", "no file", "not delegated", "another namespace"],
)
def test_without_delegation_there_are_none(root: Path, own: str, controllers: str) -> None:
    (root / "self").write_text(own)
    (root / "cgroup" / SERVICE / "cgroup.controllers").write_text(controllers)
    assert opened(root) is None


def test_a_kernel_that_refuses_gives_no_group(root: Path) -> None:
    groups = Cgroups(root / "not" / "there")
    assert groups.create("app.part.0", 1, 0) is None
