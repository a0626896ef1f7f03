"""`shoal agent install`, `upgrade` and `uninstall`: the commands, without what they take to be carried out.

`cli.py` adds them to its parser and hands their arguments over; only then is `service_command.py` loaded, so that an
agent that merely runs doesn't carry it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

LAYERS = ("cloud", "edge-infrastructure", "edge", "far-edge")


def add_service_commands(subparsers: Subparsers) -> None:
    """Add the three commands; each sets `service` to its name."""
    install = subparsers.add_parser("install", help="make the agent a service of this machine, and start it")
    install.add_argument("--url", default="", help="URL of the control plane; found by zeroconf when left out")
    install.add_argument("--ca", type=Path, help="PEM file of the authority that signed its certificate")
    install.add_argument("--plain-http", action="store_true", help="allow http:// beyond loopback, unencrypted")
    install.add_argument("--token-file", type=Path, help="file with the one-time token of `shoal token create`")
    install.add_argument("--name", default="", help="wished name of the node; the host's name when left out")
    install.add_argument("--layer", default="", choices=LAYERS, help="where the node stands")
    install.add_argument("--no-start", action="store_true", help="install and enable it, start it at the next boot")
    upgrade = subparsers.add_parser("upgrade", help="change the service's version; go back unless it keeps running")
    uninstall = subparsers.add_parser("uninstall", help="stop and remove the service; its state stays")
    uninstall.add_argument("--purge", action="store_true", help="remove configuration, identity, models and user too")
    for name, parser in (("install", install), ("upgrade", upgrade), ("uninstall", uninstall)):
        parser.set_defaults(service=name)
        parser.add_argument("--dry-run", action="store_true", help="print what would be done")
        parser.add_argument("--root", type=Path, default=Path("/"), help="write below this folder, without users and "
                            "systemd: to look at what would be written")  # fmt: skip
        if parser is not uninstall:
            parser.add_argument("--version", default="", help=f"version to install; {__version__} when left out")
            parser.add_argument("--package", default="", help="in its place: a wheel, or shoal[extras]==VERSION")
            parser.add_argument("--python", default="", help="Python 3.11 or newer for it; the system's python3 when "
                                "left out")  # fmt: skip


def run_service_command(args: argparse.Namespace) -> int:
    """Carry one of them out; gives the exit code: 0 done, 1 failed, 2 usage, 4 refused."""
    from .service_command import run_command

    return run_command(args)
