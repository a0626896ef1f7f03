"""Carries out `shoal agent install`, `upgrade` and `uninstall`: the agent as a hardened service of this machine.

`service.py` has the command line. `service_facts.py` looks, `service_plan.py` decides, `service_steps.py` does;
`--dry-run` stops before the last.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..descriptions.errors import RefusedError, ShoalError
from .config import NAME, SYSTEM_CONFIG
from .files import read_capped
from .service_facts import Found, Programs, ServiceOptions, look, package_of, python_of
from .service_plan import plan_install, plan_uninstall, plan_upgrade
from .service_steps import Step, lines, perform
from .service_unit import TOKEN, UNIT, FirstConfig

TOKEN_MAX = 4096
DONE, FAILED, USAGE, REFUSED = 0, 1, 2, 4


def run_command(args: argparse.Namespace) -> int:
    """Carry one of them out; gives the exit code: 0 done, 1 failed, 2 usage, 4 refused."""
    try:
        options = _options(args)
        found = look(options)
        steps = _plan(args, options, found)
        if args.dry_run:
            print("\n".join(lines(steps)) or "nothing to do")
            return DONE
        _check_rights(args, options, found)
        perform(steps, lambda line: print(line, flush=True))
        print(_told(args, options, found, steps))
    except RefusedError as error:
        return _failed(error, REFUSED)
    except ShoalError as error:
        return _failed(error, FAILED)
    return DONE


def _options(args: argparse.Namespace) -> ServiceOptions:
    root, is_uninstall = args.root.absolute(), args.service == "uninstall"
    package = package_of("", "", __version__) if is_uninstall else package_of(args.package, args.version, __version__)
    options = ServiceOptions(
        Programs(sys.executable if is_uninstall else python_of(args.python)),
        package,
        root,
        is_live=root == Path("/"),
    )
    if args.service != "install":
        return options
    if args.name and not NAME.fullmatch(args.name):
        raise RefusedError(f"{args.name!r} is not a node name: lower-case letters, digits and dashes")
    if args.ca is not None and not args.ca.is_file():
        raise RefusedError(f"there is no file {args.ca}")
    ca = "" if args.ca is None else str(args.ca.absolute())
    first = FirstConfig(args.url, ca, args.plain_http, args.name, args.layer)
    return replace(options, start=not args.no_start, first=first, token=_token(args.token_file))


def _token(file: Path | None) -> str:
    if file is None:
        return ""
    token = (read_capped(file, TOKEN_MAX) or b"").decode("utf-8", "replace").strip()
    if not token or not token.isprintable():
        raise RefusedError(f"{file} holds no join token; `shoal token create` makes one")
    return token


def _plan(args: argparse.Namespace, options: ServiceOptions, found: Found) -> tuple[Step, ...]:
    if args.service == "install":
        return plan_install(options, found)
    if args.service == "upgrade":
        return plan_upgrade(options, found)
    return plan_uninstall(options, found, purge=args.purge)


def _check_rights(args: argparse.Namespace, options: ServiceOptions, found: Found) -> None:
    if not options.is_live:
        return
    if os.geteuid() != 0:
        command = shlex.join([sys.argv[0], "agent", args.service])
        raise RefusedError(
            f"`agent {args.service}` changes the system and takes root: run `sudo {command} …`; `--dry-run` shows what "
            "it would do"
        )
    if not found.systemd or not Path("/run/systemd/system").is_dir():
        raise RefusedError(
            "systemd does not run here, so there is nothing to install a service into; start `shoal agent --config "
            f"{SYSTEM_CONFIG}` from what starts programs on this machine"
        )


def _told(args: argparse.Namespace, options: ServiceOptions, found: Found, steps: tuple[Step, ...]) -> str:
    """What is the case now, and what to do next."""
    version = options.package.version
    if not options.is_live:
        return f"written below {options.root}; users and systemd were left alone"
    if args.service == "uninstall":
        kept = "" if args.purge else "; its configuration and state stay, --purge removes them"
        return f"{UNIT} is removed{kept}"
    if args.service == "upgrade":
        return f"{UNIT} runs {version}" if steps else f"{UNIT} runs {version} already; --version names another"
    told = [f"shoal {version} is installed"]
    if found.has_config and options.first != FirstConfig():
        told.append(f"{SYSTEM_CONFIG} was there and was kept as it is")
    if not (options.token or found.is_joined or found.has_config):
        told.append(f"put a join token into {TOKEN} (mode 0600, owner {options.user}) and `systemctl start {UNIT}`")
    return "; ".join(told)


def _failed(error: ShoalError, code: int) -> int:
    print(f"shoal: {error}", file=sys.stderr)
    return code
