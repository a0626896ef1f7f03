"""The text of the agent's systemd unit and of its first `agent.yaml`; pure, for `service_plan.py`.

Gateway, workers and components stay when the agent is restarted or upgraded (`KillMode=process`), so whatever they hold
on to, sockets, temporary files, shared memory, must not go with the service either.
Source of every key: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.resource-control(5).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from .config import SYSTEM_CONFIG

UNIT = "shoal-agent.service"
USER = "shoal"
PROGRAM = "/opt/shoal/current/bin/shoal"
TOKEN = "/etc/shoal/join-token"  # noqa: S105 - a path
DELEGATE_SINCE = 254
"""First systemd with `DelegateSubgroup=`, and with growing delays between restarts."""

KillMode = Literal["process", "control-group"]

_HEAD = f"""\
# Made by `shoal agent install`; changes belong in `systemctl edit {UNIT}`, which upgrades leave alone.
[Unit]
Description=Shoal agent
# Not network-online.target: the agent serves its last known good state before there is a network.
After=network.target
# A node that nobody can reach must not give up.
StartLimitIntervalSec=0

[Install]
WantedBy=multi-user.target

[Service]
Type=exec
User={USER}
Group={USER}
# The script's first line names the version's own Python, so what it starts keeps to that version after an upgrade.
ExecStart={PROGRAM} agent --config {SYSTEM_CONFIG}
# stateDir and runtimeDir are then those of root, so that `sudo shoal agent status` finds this agent.
Environment=XDG_STATE_HOME=/var/lib XDG_RUNTIME_DIR=/run
# Not the private /tmp, which is emptied under processes that outlive the agent.
Environment=TMPDIR=/run/shoal/tmp
EnvironmentFile=-/etc/shoal/agent.env
StateDirectory=shoal/agent
StateDirectoryMode=0700
RuntimeDirectory=shoal shoal/tmp
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
ConfigurationDirectory=shoal
ConfigurationDirectoryMode=0750
UMask=0077
LimitNOFILE=65536
TimeoutStopSec=30
Restart=on-failure
RestartSec=2
# One replica that the kernel ends for want of memory is no reason to stop the others.
OOMPolicy=continue
"""

_KILL: dict[KillMode, str] = {
    "process": "# Gateway, workers and components go on when the agent stops, and are found again.\nKillMode=process\n",
    "control-group": "# Written by an uninstall: this time everything ends with the agent.\nKillMode=control-group\n",
}

_BACKOFF = """\
RestartSteps=5
RestartMaxDelaySec=60
"""

_DELEGATED = """\
# CPU and memory limits of replicas. A group that holds processes can't have limited children, hence the subgroup.
Delegate=cpu memory
DelegateSubgroup=agent
"""

_NOT_DELEGATED = """\
# No Delegate: this systemd can't put the agent into a subgroup, so a restart beside running replicas would fail.
# Replicas get rlimits and CPU affinity.
ProtectControlGroups=yes
"""

_WALLS = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# Netlink lists network interfaces, for zeroconf.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Left out on purpose: PrivateDevices and DevicePolicy (cameras, GPUs, Coral, Hailo), MemoryDenyWriteExecute (inference
# libraries compile at run time), RemoveIPC and PrivateIPC (shared memory of the gateway that outlives the agent).
"""


def unit_text(systemd: int, kill_mode: KillMode = "process") -> str:
    """The unit for this version of systemd."""
    is_new = systemd >= DELEGATE_SINCE
    parts = (_HEAD, _BACKOFF if is_new else "", _KILL[kill_mode], _DELEGATED if is_new else _NOT_DELEGATED, _WALLS)
    return "".join(parts)


@dataclass(frozen=True)
class FirstConfig:
    """What `install` writes to an `agent.yaml` that is not there yet."""

    url: str = ""
    """Of the control plane; found by zeroconf when empty."""
    ca: str = ""
    """Path of the PEM file for it."""
    plain_http: bool = False
    name: str = ""
    layer: str = ""


def config_text(first: FirstConfig) -> str:
    """The file; JSON strings are YAML strings."""
    lines = [
        "# Configuration of this node's agent; keys, defaults and variables: docs/configuration.md.",
        *([f"name: {json.dumps(first.name)}"] if first.name else ["# name: the host's name"]),
        *([f"layer: {first.layer}"] if first.layer else ["# layer: edge"]),
        "controlPlane:",
        f"  url: {json.dumps(first.url)}" if first.url else "  # url: found on the local network by zeroconf",
        *([f"  ca: {json.dumps(first.ca)}"] if first.ca else []),
        *(["  plainHttp: true   # token and models travel unencrypted"] if first.plain_http else []),
        f"  tokenFile: {TOKEN}",
        "# mechanisms:",
        "#   inference: {}",
        "#   process: {programs: [/opt/app/]}   # what descriptions may run here",
    ]
    return "\n".join(lines) + "\n"
