"""What the operator asked of the service and what this machine has of it already: the two inputs of every plan.

`service.py` makes `ServiceOptions` of the command line and calls `look`; `service_plan.py` turns both into steps.
Looking changes nothing.
"""

from __future__ import annotations

import grp
import pwd
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..descriptions.errors import DescriptionError, RefusedError, ShoalError
from .files import read_capped
from .identity import FILE as IDENTITY
from .service_steps import Run, run
from .service_unit import UNIT, USER, FirstConfig

COMPLETE = ".complete"
"""File in a version's folder: everything is installed and was tried."""
UNIT_MAX = 64 * 1024
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
DEVICE_GROUPS = ("video", "render", "plugdev", "dialout", "gpio", "i2c", "spi", "hailo")
"""Groups that own cameras, accelerators and pins on Debian, Raspberry Pi OS and JetPack."""

_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]{0,63}")
_WHEEL = re.compile(r"(?P<file>(?:.*/)?shoal-(?P<version>[^-/]+)-[^/]*\.whl)(?P<extras>\[[a-z0-9,_-]+\])?")
_PINNED = re.compile(r"shoal(\[[a-z0-9,_-]+\])?\s*==\s*(?P<version>[^\s;,]+)")


@dataclass(frozen=True)
class Programs:
    """What the steps call."""

    python: str
    """Makes the virtual environment; the service's Python from then on."""
    systemctl: str = "systemctl"
    useradd: str = "useradd"
    userdel: str = "userdel"


@dataclass(frozen=True)
class Package:
    """What pip is told to install, and the version that this is."""

    requirement: str
    version: str


@dataclass(frozen=True)
class ServiceOptions:
    """What is wanted."""

    programs: Programs
    package: Package
    root: Path = Path("/")
    """Everything is written below it."""
    is_live: bool = True
    """False leaves users, owners and systemd alone."""
    start: bool = True
    first: FirstConfig = field(default_factory=FirstConfig)
    token: str = field(default="", repr=False)
    user: str = USER
    deadline_s: float = 60.0
    settle_s: float = 5.0
    """A new version must have run this long before the old one is given up."""

    def at(self, path: str) -> Path:
        """A path of the machine, below the root."""
        return self.root / path.lstrip("/")


@dataclass(frozen=True)
class Found:
    """What is there."""

    systemd: int = 0
    """Version; 0 where there is none."""
    has_user: bool = False
    device_groups: tuple[str, ...] = ()
    unit: str | None = None
    """Text of the unit."""
    has_config: bool = False
    is_joined: bool = False
    current: str = ""
    """Version that the link names."""
    versions: tuple[str, ...] = ()
    """Folders below `/opt/shoal`, complete or not."""
    complete: frozenset[str] = frozenset()
    in_use: frozenset[str] = frozenset()
    """Versions whose Python runs: a gateway may be older than the agent."""


def package_of(wanted: str, version: str, own: str) -> Package:
    """Read `--package` and `--version`; the version of this very program when neither is given."""
    if wanted and version:
        raise DescriptionError("--version and --package were both given", expected="one of them")
    if not wanted:
        return Package(f"shoal[inference]=={_checked(version or own)}", version or own)
    if found := _WHEEL.fullmatch(wanted):
        file = Path(found["file"]).absolute()
        if not file.is_file():
            raise DescriptionError(f"there is no file {file}")
        return Package(f"{file}{found['extras'] or '[inference]'}", _checked(found["version"]))
    if found := _PINNED.fullmatch(wanted):
        return Package(wanted, _checked(found["version"]))
    raise DescriptionError(f"can't tell the version of {wanted!r}", expected="shoal[inference]==1.2.3 or a wheel")


def _checked(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise DescriptionError(f"{version!r} is no version", expected="such as 1.2.3")
    return version


def python_of(wanted: str) -> str:
    """The Python for the service: a program that the service's user can reach after `ProtectHome=yes`."""
    found = shutil.which(wanted or "python3", path=None if "/" in wanted else SYSTEM_PATH)
    if found is None:
        raise DescriptionError(f"there is no Python {wanted!r}", expected="--python /path/to/python3")
    real = Path(found).resolve()
    if real.is_relative_to("/home") or real.is_relative_to("/root"):
        raise RefusedError(
            f"{real} is in a home folder, which the service can't read; install a Python elsewhere, such as "
            "`apt-get install python3-venv` or `UV_PYTHON_INSTALL_DIR=/opt/python uv python install 3.11`, and name "
            "it with --python"
        )
    return found


def look(options: ServiceOptions) -> Found:
    """See what is installed below the root."""
    folder = options.at("/opt/shoal")
    current = folder / "current"
    versions = sorted(one.name for one in folder.glob("*") if one.is_dir() and not one.is_symlink())
    unit = read_capped(options.at(f"/etc/systemd/system/{UNIT}"), UNIT_MAX)
    return Found(
        systemd=_systemd(options.programs.systemctl),
        has_user=_has_user(options.user),
        device_groups=tuple(group for group in DEVICE_GROUPS if _has_group(group)),
        unit=None if unit is None else unit.decode("utf-8", "replace"),
        has_config=options.at("/etc/shoal/agent.yaml").exists(),
        is_joined=options.at(f"/var/lib/shoal/agent/{IDENTITY}").exists(),
        current=current.readlink().name if current.is_symlink() else "",
        versions=tuple(versions),
        complete=frozenset(version for version in versions if (folder / version / COMPLETE).exists()),
        in_use=frozenset(_in_use(folder)),
    )


def _systemd(systemctl: str) -> int:
    try:
        first = run(Run((systemctl, "--version")))
    except ShoalError:
        return 0
    words = first.split()
    return int(words[1]) if len(words) > 1 and words[0] == "systemd" and words[1].isdigit() else 0


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _in_use(folder: Path) -> set[str]:
    """Versions that running programs were started from, by their first argument."""
    found: set[str] = set()
    for process in psutil.process_iter(["cmdline"]):
        argv: list[str] = process.info["cmdline"] or []
        if argv and argv[0].startswith(f"{folder}/"):
            found.add(Path(argv[0]).relative_to(folder).parts[0])
    return found
