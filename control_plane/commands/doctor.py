"""`shoal doctor`: looks at this machine and its control plane, and says what to do about what is wrong.

Each check is a function that gives a `Finding`; a bundle is the findings and a few facts in one zip, without secrets.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
import socket
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from .contexts import Target

Verdict = Literal["ok", "note", "problem"]

EXTRAS = {
    "control-plane": ("sqlalchemy", "alembic", "numpy"),
    "inference": ("numpy", "onnxruntime", "httptools"),
    "litert": ("ai_edge_litert",),
    "broker": ("amqtt",),
    "sim": ("matplotlib",),
}
DISK_MIN_BYTES = 1 << 30
PORTS = {"API": 7400, "broker": 1883, "gateway": 8080}
ANSWER_MAX = 64 * 1024


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do."""

    check: str
    verdict: Verdict
    message: str
    advice: str = ""


def check_python() -> Finding:
    """A platform where agents serve."""
    version = platform.python_version()
    if platform.system() != "Linux" or platform.machine() not in {"x86_64", "aarch64"}:
        where = f"{platform.system()} {platform.machine()}"
        return Finding("python", "note", f"Python {version} on {where}", "agents serve on Linux x86_64 and aarch64")
    return Finding("python", "ok", f"Python {version}, {platform.system()} {platform.machine()}")


def check_extras() -> list[Finding]:
    """Which optional parts are installed."""
    found = []
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            advice = f"pip install 'shoal[{extra}]' if this machine needs it"
            found.append(Finding(f"extra {extra}", "note", f"missing {', '.join(missing)}", advice))
        else:
            found.append(Finding(f"extra {extra}", "ok", "installed"))
    return found


def check_disk(path: Path) -> Finding:
    """Room for models, the outbox and the database."""
    free = shutil.disk_usage(path).free
    if free < DISK_MIN_BYTES:
        return Finding(
            "disk", "problem", f"{free >> 20} MiB free at {path}", "free at least 1 GiB, or set stateDir elsewhere"
        )
    return Finding("disk", "ok", f"{free >> 30} GiB free at {path}")


def check_clock() -> Finding:
    """A clock before this software existed breaks certificates, though no lease depends on it."""
    if time.time() < 1_767_225_600:  # 2026-01-01
        return Finding("clock", "problem", f"the clock says {time.strftime('%Y-%m-%d')}", "set the time or enable NTP")
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()))


def check_ports() -> list[Finding]:
    """Who listens on the default ports."""
    found = []
    for what, port in PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(0.5)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        state = "something listens" if taken else "free"
        found.append(Finding(f"port {port} ({what})", "ok", state))
    return found


def check_control_plane(target: Target) -> list[Finding]:
    """Whether the control plane answers, is ready, and takes the token."""
    status, _ = _get(f"{target.url}/readyz", "")
    if status == 0:
        advice = "start one with `shoal control-plane`, or choose one with --url or `shoal context use`"
        return [Finding("control plane", "note", f"nothing answers at {target.url}", advice)]
    if status != 200:
        return [Finding("control plane", "problem", f"{target.url} is not ready ({status})", "look at its log")]
    found = [Finding("control plane", "ok", f"ready at {target.url}")]
    status, _ = _get(f"{target.url}/v1/nodes", target.token)
    if status in {401, 403}:
        found.append(Finding("token", "problem", f"refused ({status})", "give --token-file, SHOAL_TOKEN or a context"))
    elif status == 200:
        found.append(Finding("token", "ok", "accepted" if target.token else "none needed"))
    else:
        found.append(Finding("token", "problem", f"the control plane answered {status}", "look at its log"))
    return found


def _get(url: str, token: str) -> tuple[int, bytes]:
    if not url.startswith(("http://", "https://")):
        return 0, b""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310
            return answer.status, answer.read(ANSWER_MAX)
    except urllib.error.HTTPError as error:
        return error.code, b""
    except OSError:
        return 0, b""


def examine(target: Target) -> list[Finding]:
    """Run all checks."""
    checks: Sequence[Callable[[], Finding | list[Finding]]] = (
        check_python, check_extras, lambda: check_disk(Path.home()), check_clock, check_ports,
        lambda: check_control_plane(target),
    )  # fmt: skip
    findings: list[Finding] = []
    for check in checks:
        found = check()
        findings.extend(found if isinstance(found, list) else [found])
    return findings


def write_bundle(path: Path, findings: list[Finding], target: Target) -> None:
    """Write findings, versions and facts of the control plane to a zip; no token, environment or host name is in it."""
    installed = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("findings.json", json.dumps([asdict(one) for one in findings], indent=2))
        bundle.writestr("packages.json", json.dumps(installed, indent=2, sort_keys=True))
        for page in ("healthz", "readyz", "metrics", "v1/nodes", "v1/events"):
            status, body = _get(f"{target.url}/{page}", target.token)
            if status == 200:
                bundle.writestr(f"control-plane/{page.replace('/', '-')}", body)
