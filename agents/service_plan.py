"""Turns what is wanted and what is there into steps: install, upgrade, uninstall. Pure; `service.py` performs them.

Each version is a virtual environment of its own in `/opt/shoal/<version>`, so that the system's Python stays as it is
(PEP 668) and two versions stand side by side; `/opt/shoal/current` names the one that runs. What is as wanted already
gives no step, so everything may be done twice.
"""

from __future__ import annotations

from ..descriptions.errors import RefusedError
from .config import SYSTEM_CONFIG
from .service_facts import COMPLETE, Found, ServiceOptions
from .service_steps import Attempt, AwaitActive, Link, MakeFolder, Owner, Remove, Run, Step, WriteFile
from .service_unit import TOKEN, UNIT, config_text, unit_text

VENV_S = 300.0
PIP_S = 1800.0
"""Wheels over a slow line, unpacked to a slow SD card."""
STOP_S = 120.0
STATE = "/var/lib/shoal/agent"
RUNTIME = "/run/shoal"
OPT = "/opt/shoal"
NEW_ENOUGH = "import sys, venv, ensurepip; raise SystemExit(sys.version_info < (3, 11))"


def plan_install(options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    """Install what is missing; another version than the one that runs is an upgrade."""
    start = options.start and bool(options.token or found.is_joined or found.has_config)
    return (
        *_user(options, found),
        *_version(options, found),
        *_configuration(options, found),
        *_switch(options, found, start=start),
    )


def plan_upgrade(options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    """Install the version beside the one that runs, switch, and go back unless it keeps running."""
    if found.unit is None:
        raise RefusedError(f"there is no {UNIT} to upgrade; `shoal agent install` makes it")
    if found.current == options.package.version and found.unit == unit_text(found.systemd):
        return ()
    return (*_version(options, found), *_switch(options, found, start=True), *_outdated(options, found))


def plan_uninstall(options: ServiceOptions, found: Found, *, purge: bool) -> tuple[Step, ...]:
    """Stop and remove the service; `purge` also removes configuration, identity, models and user."""
    steps: list[Step] = []
    if found.unit is not None:
        unit = options.at(f"/etc/systemd/system/{UNIT}")
        if options.is_live:
            # This time the gateway and the components must end too.
            steps += [WriteFile(unit, unit_text(found.systemd, "control-group")), _systemctl(options, "daemon-reload")]
            steps += [_systemctl(options, "disable", "--now", UNIT, timeout_s=STOP_S)]
        steps += [Remove(unit)]
        if options.is_live:
            steps += [_systemctl(options, "daemon-reload"), _systemctl(options, "reset-failed", UNIT, may_fail=True)]
    steps += [Remove(options.at(RUNTIME))]
    if purge:
        steps += [Remove(options.at(path)) for path in (str(SYSTEM_CONFIG), TOKEN, "/etc/shoal/agent.env", STATE)]
        # A control plane on this machine keeps its own files there.
        steps += [Remove(options.at(path), only_if_empty=True) for path in ("/etc/shoal", "/var/lib/shoal")]
        if options.is_live and found.has_user:
            steps += [Run((options.programs.userdel, options.user), may_fail=True)]
    return (*steps, Remove(options.at(OPT)))


def _user(options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    """A user of its own without shell, in the groups that own cameras and accelerators here."""
    if found.has_user or not options.is_live:
        return ()
    groups = ("--groups", ",".join(found.device_groups)) if found.device_groups else ()
    home = ("--home-dir", STATE, "--no-create-home", "--shell", "/usr/sbin/nologin")
    return (Run((options.programs.useradd, "--system", "--user-group", *home, *groups, options.user)),)


def _version(options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    version = options.package.version
    if version in found.complete:
        return ()
    folder = options.at(f"{OPT}/{version}")
    pip = (str(folder / "bin/python"), "-m", "pip", "--no-input", "--disable-pip-version-check", "install")
    return (
        Run((options.programs.python, "-c", NEW_ENOUGH)),
        *((Remove(folder),) if version in found.versions else ()),
        MakeFolder(options.at(OPT)),
        Run((options.programs.python, "-m", "venv", str(folder)), timeout_s=VENV_S),
        # From wheels alone: nodes have no compiler.
        Run((*pip, "--quiet", "--only-binary=:all:", options.package.requirement), timeout_s=PIP_S),
        Run((str(folder / "bin/shoal"), "agent", "--version"), expected=version),
        WriteFile(folder / COMPLETE, f"{options.package.requirement}\n"),
    )


def _configuration(options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    """The folder, `agent.yaml` unless there is one, and the join token where one is given."""
    config, token = options.at(str(SYSTEM_CONFIG)), options.at(TOKEN)
    group = Owner("root", options.user) if options.is_live else None
    own = Owner(options.user, options.user) if options.is_live else None
    steps: list[Step] = []
    if not found.has_config:
        steps += [MakeFolder(config.parent, 0o750, group)]
        steps += [WriteFile(config, config_text(options.first), 0o640, group)]
    if options.token:
        steps += [WriteFile(token, f"{options.token}\n", 0o600, own)]
    return tuple(steps)


def _switch(options: ServiceOptions, found: Found, *, start: bool) -> tuple[Step, ...]:
    """Let link and unit be those of the version and (re)start it; where another ran before, be ready to go back."""
    version, current, unit = options.package.version, options.at(f"{OPT}/current"), unit_text(found.systemd)
    there: list[Step] = [Link(current, version)] if found.current != version else []
    back: list[Step] = [Link(current, found.current)] if found.current != version else []
    if found.unit != unit:
        path = options.at(f"/etc/systemd/system/{UNIT}")
        there += [MakeFolder(path.parent), WriteFile(path, unit), *_live(options, "daemon-reload")]
        back += [WriteFile(path, found.unit or unit), *_live(options, "daemon-reload")]
    there += _live(options, "enable", UNIT)
    if not (start and options.is_live):
        return tuple(there)
    verb = "restart" if len(there) > 1 else "start"
    there += [_systemctl(options, verb, UNIT, timeout_s=STOP_S), _active(options)]
    if not found.current or found.current == version:
        return tuple(there)
    back += [_systemctl(options, "restart", UNIT, timeout_s=STOP_S), _active(options)]
    back += [Remove(options.at(f"{OPT}/{version}") / COMPLETE)]  # so that the next try installs it anew
    return (Attempt(tuple(there), tuple(back), f"{found.current} runs again"),)


def _outdated(options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    """Versions that nobody needs: neither the new one nor the one before, nor one that a running gateway is of."""
    kept = {options.package.version, found.current} | found.in_use
    return tuple(Remove(options.at(f"{OPT}/{version}")) for version in found.versions if version not in kept)


def _live(options: ServiceOptions, *words: str) -> tuple[Step, ...]:
    return (_systemctl(options, *words),) if options.is_live else ()


def _systemctl(options: ServiceOptions, *words: str, may_fail: bool = False, timeout_s: float = 60.0) -> Run:
    return Run((options.programs.systemctl, *words), may_fail=may_fail, timeout_s=timeout_s)


def _active(options: ServiceOptions) -> AwaitActive:
    return AwaitActive(options.programs.systemctl, UNIT, options.deadline_s, options.settle_s)
