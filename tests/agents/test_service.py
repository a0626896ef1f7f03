"""The service: exactly these steps for what is there, and install, upgrade, rollback and removal below a folder."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shoal import __version__
from shoal.agents.config import load_config
from shoal.agents.service import add_service_commands, run_service_command
from shoal.agents.service_facts import Found, Package, Programs, ServiceOptions, look, package_of, python_of
from shoal.agents.service_plan import plan_install, plan_uninstall, plan_upgrade
from shoal.agents.service_steps import Attempt, AwaitActive, Link, Remove, Run, Step, WriteFile, lines, perform
from shoal.agents.service_unit import DELEGATE_SINCE, PROGRAM, UNIT, FirstConfig, config_text, unit_text
from shoal.descriptions.errors import DescriptionError, RefusedError, TransportError

SYSTEMD = 252
NEW = Package("shoal[inference]==2.0", "2.0")
OPTIONS = ServiceOptions(Programs("/usr/bin/python3"), NEW, first=FirstConfig("https://cp:7400"), token="secret-token")
HOME = ("--home-dir", "/var/lib/shoal/agent", "--no-create-home", "--shell", "/usr/sbin/nologin")
PIP = ("--no-input", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:")
INSTALLED = Found(
    SYSTEMD, has_user=True, unit=unit_text(SYSTEMD), has_config=True, is_joined=True, current="2.0", versions=("2.0",),
    complete=frozenset({"2.0"}),
)  # fmt: skip
OLDER = replace(INSTALLED, current="1.0", versions=("0.9", "1.0"), complete=frozenset({"0.9", "1.0"}))


def test_a_fresh_machine_gets_everything() -> None:
    told = lines(plan_install(OPTIONS, Found(SYSTEMD, device_groups=("video", "render"))))
    environment = "/opt/shoal/2.0/bin"
    assert [line.split(" (")[0] for line in told] == [
        f"run useradd --system --user-group {' '.join(HOME)} --groups video,render shoal",
        "run /usr/bin/python3 -c import sys, venv, ensurepip; raise SystemExit(sys.version_info <",
        "make folder /opt/shoal",
        "run /usr/bin/python3 -m venv /opt/shoal/2.0",
        f"run {environment}/python -m pip {' '.join(PIP)} shoal[inference]==2.0",
        f"run {environment}/shoal agent --version",
        "write /opt/shoal/2.0/.complete",
        "make folder /etc/shoal",
        "write /etc/shoal/agent.yaml",
        "write /etc/shoal/join-token",
        "link /opt/shoal/current to 2.0",
        "make folder /etc/systemd/system",
        f"write /etc/systemd/system/{UNIT}",
        "run systemctl daemon-reload",
        f"run systemctl enable {UNIT}",
        f"run systemctl restart {UNIT}",
        f"wait until {UNIT} has been active for 5 s, at most 60 s",
    ]
    assert "secret-token" not in "\n".join(told)
    assert "secret-token" not in repr(plan_install(OPTIONS, Found(SYSTEMD)))


def files(steps: tuple[Step, ...]) -> dict[str, tuple[int, str]]:
    """Path → mode and owner of every file written."""
    return {
        str(step.path): (step.mode, f"{step.owner.user}:{step.owner.group}" if step.owner else "")
        for step in steps
        if isinstance(step, WriteFile)
    }


def test_the_configuration_is_for_root_and_the_service_and_the_token_for_the_service_alone() -> None:
    written = files(plan_install(OPTIONS, Found(SYSTEMD)))
    assert written["/etc/shoal/agent.yaml"] == (0o640, "root:shoal")
    assert written["/etc/shoal/join-token"] == (0o600, "shoal:shoal")


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        pytest.param(replace(OPTIONS, token=""), INSTALLED, [f"enable {UNIT}", f"start {UNIT}"], id="all there"),
        pytest.param(replace(OPTIONS, token="", start=False), INSTALLED, [f"enable {UNIT}"], id="not to be started"),
        pytest.param(replace(OPTIONS, token=""), replace(INSTALLED, unit="[Unit]"),
                     ["daemon-reload", f"enable {UNIT}", f"restart {UNIT}"], id="another unit"),
        pytest.param(replace(OPTIONS, token=""), replace(Found(SYSTEMD, has_user=True), complete=frozenset({"2.0"})),
                     ["daemon-reload", f"enable {UNIT}"], id="nothing to join with"),
    ],
)  # fmt: skip
def test_what_is_there_already_gives_no_step(options: ServiceOptions, found: Found, expected: list[str]) -> None:
    steps = plan_install(options, found)
    assert [" ".join(step.argv[1:]) for step in steps if isinstance(step, Run)] == expected
    assert not any(isinstance(step, Attempt) for step in steps)


def test_a_version_that_was_cut_off_is_made_anew() -> None:
    steps = plan_install(OPTIONS, replace(INSTALLED, complete=frozenset()))
    assert steps[1] == Remove(Path("/opt/shoal/2.0"))


def test_an_upgrade_is_beside_then_switched_with_a_way_back() -> None:
    *_, attempt, removed = plan_upgrade(OPTIONS, OLDER)
    assert isinstance(attempt, Attempt)
    current, active = Path("/opt/shoal/current"), AwaitActive("systemctl", UNIT, 60, 5)
    restart = Run(("systemctl", "restart", UNIT), timeout_s=120)
    assert attempt.steps == (Link(current, "2.0"), Run(("systemctl", "enable", UNIT)), restart, active)
    assert attempt.otherwise == (Link(current, "1.0"), restart, active, Remove(Path("/opt/shoal/2.0/.complete")))
    assert removed == Remove(Path("/opt/shoal/0.9"))


def test_a_version_that_a_gateway_still_runs_is_kept() -> None:
    steps = plan_upgrade(OPTIONS, replace(OLDER, in_use=frozenset({"0.9"})))
    assert not any(isinstance(step, Remove) for step in steps)


def test_there_is_nothing_to_upgrade_to_the_same_version_or_without_a_service() -> None:
    assert plan_upgrade(OPTIONS, INSTALLED) == ()
    with pytest.raises(RefusedError, match="agent install"):
        plan_upgrade(OPTIONS, Found(SYSTEMD))


def test_uninstall_ends_what_outlives_the_agent_and_leaves_state_unless_purged() -> None:
    steps = plan_uninstall(OPTIONS, INSTALLED, purge=False)
    first = steps[0]
    assert isinstance(first, WriteFile)
    assert "KillMode=control-group" in first.text
    removed = {str(step.path) for step in steps if isinstance(step, Remove)}
    assert removed == {f"/etc/systemd/system/{UNIT}", "/run/shoal", "/opt/shoal"}
    purged = plan_uninstall(OPTIONS, INSTALLED, purge=True)
    more = {(str(step.path), step.only_if_empty) for step in purged if isinstance(step, Remove)}
    assert {("/etc/shoal/agent.yaml", False), ("/var/lib/shoal/agent", False), ("/var/lib/shoal", True)} <= more
    assert Run(("userdel", "shoal"), may_fail=True) in purged


# --- the unit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("systemd", [SYSTEMD, DELEGATE_SINCE])
@pytest.mark.parametrize("kill_mode", ["process", "control-group"])
def test_systemd_accepts_the_unit(systemd: int, kill_mode: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / UNIT
    # The program isn't installed here; all the rest is as written.
    text = unit_text(systemd, "process" if kill_mode == "process" else "control-group").replace(PROGRAM, sys.executable)
    unit.write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    here = int(subprocess.run([analyze, "--version"], capture_output=True, text=True, check=True).stdout.split()[1])
    complaints = [line for line in done.stderr.splitlines() if UNIT in line]
    if here < DELEGATE_SINCE <= systemd:  # keys that this systemd doesn't know yet
        complaints = [line for line in complaints if "Unknown key" not in line]
    assert complaints == []


def test_the_unit_is_exposed_little(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / UNIT
    unit.write_text(unit_text(SYSTEMD).replace(PROGRAM, sys.executable))
    argv = [analyze, "security", "--offline=true", "--threshold=30", "--no-pager", str(unit)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_a_systemd_with_subgroups_delegates() -> None:
    # Without the subgroup a restart beside running replicas fails: their group may hold no process itself.
    assert "Delegate=" not in unit_text(DELEGATE_SINCE - 1)
    assert "DelegateSubgroup=agent" in unit_text(DELEGATE_SINCE)
    assert "ProtectControlGroups" not in unit_text(DELEGATE_SINCE).replace("# ", "")


def test_the_first_configuration_is_one_that_the_agent_reads(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(config_text(FirstConfig("https://cp:7400", "/etc/shoal/ca.pem", True, "camera-1", "far-edge")))
    read = load_config(path, {})
    assert (read.name, read.layer, read.control_plane.url) == ("camera-1", "far-edge", "https://cp:7400")
    assert (read.control_plane.ca, read.control_plane.plain_http) == (Path("/etc/shoal/ca.pem"), True)
    assert read.control_plane.token_file == Path("/etc/shoal/join-token")
    path.write_text(config_text(FirstConfig()))
    assert load_config(path, {}).control_plane.url == ""


def test_where_state_goes_by_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in unit_text(SYSTEMD).splitlines():
        for pair in line.removeprefix("Environment=").split() if line.startswith("Environment=") else ():
            monkeypatch.setenv(*pair.split("=", 1))
    theirs = []
    for uid in (999, 0):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        theirs.append(load_config(None, {}))
    service, root = theirs
    assert (service.state, service.runtime) == (root.state, root.runtime), "`sudo shoal agent status` finds the service"
    assert service.state == Path("/var/lib/shoal/agent")
    assert service.runtime.parent == Path("/run/shoal")


# --- packages and Pythons -------------------------------------------------------------------------------------------


def test_packages(tmp_path: Path) -> None:
    wheel = tmp_path / "shoal-1.2.3-py3-none-any.whl"
    wheel.touch()
    assert package_of("", "", "0.1.0") == Package("shoal[inference]==0.1.0", "0.1.0")
    assert package_of("", "1.2", "0.1.0") == Package("shoal[inference]==1.2", "1.2")
    assert package_of(str(wheel), "", "0") == Package(f"{wheel}[inference]", "1.2.3")
    assert package_of(f"{wheel}[litert]", "", "0") == Package(f"{wheel}[litert]", "1.2.3")
    assert package_of("shoal[inference,litert]==2.0", "", "0").version == "2.0"


@pytest.mark.parametrize(
    ("package", "version", "told"),
    [
        pytest.param("shoal", "", "tell the version", id="not pinned"),
        pytest.param("other==1.0", "", "tell the version", id="another package"),
        pytest.param("shoal-9.9-py3-none-any.whl", "", "no file", id="no such wheel"),
        pytest.param("", "../../etc", "no version", id="a path as version"),
        pytest.param("shoal==1.0", "1.0", "both", id="both"),
    ],
)
def test_packages_that_are_refused(package: str, version: str, told: str) -> None:
    with pytest.raises(DescriptionError, match=told):
        package_of(package, version, "0.1.0")


def test_a_python_that_is_not_there_is_refused() -> None:
    with pytest.raises(DescriptionError, match="no Python"):
        python_of("/nowhere/python3")


# --- performed, with stub programs ----------------------------------------------------------------------------------

PYTHON = """#!/bin/sh
# Stands for an interpreter: makes "environments" that hold itself, and "installs" a program that prints its version.
here=$(dirname "$0")
case "$1 $2" in
  "-c import"*) exit 0 ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip") for last in "$@"; do :; done; v=${last##*==}
     printf '#!/bin/sh\\necho shoal %s\\n' "$v" > "$here/shoal" && chmod 755 "$here/shoal" ;;
esac
"""

SYSTEMCTL = """#!/bin/sh
# Stands for systemd: a version called 3.0 crashes at its start, all others run.
root=$(dirname "$0")/root
echo "$@" >> "$(dirname "$0")/calls"
case "$1" in
  --version) echo "systemd 252 (252.1)" ;;
  show) case $(readlink "$root/opt/shoal/current") in
          3.0) echo ActiveState=activating; echo MainPID=0 ;;
          *) echo ActiveState=active; echo MainPID=77 ;;
        esac ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> ServiceOptions:
    """A machine below a folder whose programs are stubs; its service user is whoever runs the test."""
    for name, text in (("python3", PYTHON), ("systemctl", SYSTEMCTL), ("userdel", "#!/bin/sh\nexit 8\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    programs = Programs(*(str(tmp_path / name) for name in ("python3", "systemctl", "useradd", "userdel")))
    return ServiceOptions(programs, Package("shoal==1.0", "1.0"), tmp_path / "root", user="root",
                          token="t", deadline_s=0.3, settle_s=0.02)  # fmt: skip


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")


def silent(line: str) -> None:
    """Say nothing."""


def version(options: ServiceOptions, number: str) -> ServiceOptions:
    return replace(options, package=Package(f"shoal=={number}", number))


def install(options: ServiceOptions) -> None:
    perform(plan_install(options, look(options)), silent)


def upgrade(options: ServiceOptions) -> None:
    perform(plan_upgrade(options, look(options)), silent)


@needs_root
def test_install_twice_changes_nothing(machine: ServiceOptions) -> None:
    install(machine)
    config, unit = machine.at("/etc/shoal/agent.yaml"), machine.at(f"/etc/systemd/system/{UNIT}")
    config.write_text("name: mine\n")
    before = unit.stat().st_mtime_ns
    install(machine)
    assert config.read_text() == "name: mine\n"
    assert unit.stat().st_mtime_ns == before
    assert machine.at("/opt/shoal/current").readlink() == Path("1.0")
    assert machine.at("/etc/shoal/join-token").stat().st_mode & 0o777 == 0o600
    assert config.stat().st_mode & 0o777 == 0o640


@needs_root
def test_an_upgrade_switches_and_removes_the_version_before_the_last(machine: ServiceOptions) -> None:
    install(machine)
    upgrade(version(machine, "1.1"))
    upgrade(version(machine, "1.2"))
    found = look(machine)
    assert (found.current, found.versions) == ("1.2", ("1.1", "1.2"))


@needs_root
def test_a_version_that_does_not_run_is_taken_back(machine: ServiceOptions) -> None:
    install(machine)
    with pytest.raises(TransportError, match=r"is activating.*1\.0 runs again"):
        upgrade(version(machine, "3.0"))
    found = look(machine)
    assert found.current == "1.0"
    assert "3.0" not in found.complete
    calls = (Path(machine.programs.systemctl).parent / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith("restart")] == [f"restart {UNIT}"] * 3


@needs_root
def test_a_package_of_another_version_than_it_says_is_not_switched_to(machine: ServiceOptions) -> None:
    install(machine)
    with pytest.raises(TransportError, match=r"expected '9\.9'"):
        upgrade(replace(machine, package=Package("shoal==1.5", "9.9")))
    assert look(machine).current == "1.0"


@needs_root
def test_uninstall_keeps_state_and_purge_does_not(machine: ServiceOptions) -> None:
    install(machine)
    identity = machine.at("/var/lib/shoal/agent/identity.json")
    identity.parent.mkdir(parents=True)
    identity.touch()
    other = machine.at("/var/lib/shoal/control-plane")
    other.mkdir()
    perform(plan_uninstall(machine, look(machine), purge=False), silent)
    assert identity.exists()
    assert machine.at("/etc/shoal/agent.yaml").exists()
    assert not machine.at("/opt/shoal").exists()
    assert look(machine).unit is None
    perform(plan_uninstall(machine, look(machine), purge=True), silent)
    assert not identity.exists()
    assert not machine.at("/etc/shoal").exists()
    assert other.exists(), "what isn't the agent's stays"
    perform(plan_uninstall(machine, look(machine), purge=True), silent)


def test_going_back_that_fails_too_says_both(tmp_path: Path) -> None:
    false = Run(("false",))
    missing = Run((str(tmp_path / "missing"),))
    with pytest.raises(TransportError, match=r"`false` ended with code 1.*going back failed.*missing"):
        perform((Attempt((false,), (missing,), "as before"),), silent)


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A stub outside of all home folders, where the tests' own Python may be."""
    path = tmp_path / "python3"
    path.write_text(PYTHON)
    path.chmod(0o755)
    return str(path)


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_service_commands(parser.add_subparsers())
    return run_service_command(parser.parse_args(argv))


def test_a_dry_run_prints_the_plan_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], python: str
) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    root = tmp_path / "root"
    argv = ("install", "--url", "https://cp:7400", "--token-file", str(token), "--root", str(root), "--python", python)
    assert run(*argv, "--dry-run") == 0
    told = capsys.readouterr().out
    assert f"write {root}/etc/systemd/system/{UNIT}" in told
    assert f"shoal[inference]=={__version__}" in told
    assert "systemctl" not in told, "below another root there is no systemd to tell"
    assert not root.exists()


def test_without_root_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], python: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run("install", "--python", python) == 4
    told = capsys.readouterr().err
    assert "sudo" in told
    assert "agent install" in told


def test_without_systemd_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert run("uninstall", "--purge") == 4
    assert "systemd does not run here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        pytest.param(("install", "--name", "Bad Name"), 4, "not a node name", id="name"),
        pytest.param(("install", "--ca", "/nowhere/ca.pem"), 4, "no file /nowhere/ca.pem", id="ca"),
        pytest.param(("install", "--token-file", "/nowhere/token"), 4, "holds no join token", id="token"),
        pytest.param(("upgrade", "--package", "shoal"), 1, "tell the version", id="package"),
        pytest.param(("upgrade", "--root", "/nowhere"), 4, "agent install", id="not installed"),
    ],
)
def test_what_can_not_work_is_refused(
    argv: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str], python: str
) -> None:
    assert run(*argv, "--python", python, "--dry-run") == code
    assert told in capsys.readouterr().err
