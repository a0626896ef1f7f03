"""`shoal control-plane` and `shoal broker`: the processes of a slice that aren't agents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from .output import errors
from .session import guarded


@guarded
def control_plane(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="control-plane.yaml")] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written with the API's URL once requests are served.")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Ask for no token; on loopback alone.")] = False,
) -> None:
    """Run one slice's control plane until it is told to stop."""
    from ..config import load_config
    from ..run import serve

    environment = dict(os.environ)
    if insecure:
        environment["SHOAL_CONTROL_PLANE_API_INSECURE"] = "true"
    raise typer.Exit(serve(load_config(config, environment), ready_file=ready_file))


def broker(
    credentials_file: Annotated[
        Path, typer.Option(help="JSON {slice, key}, mode 0600; the control plane's broker.json.")
    ],
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free port.")] = 1883,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written with the port once connections are accepted.")
    ] = None,
) -> None:
    """Run the embedded MQTT broker, for one machine. In production use Mosquitto or EMQX."""
    from ...telemetry.broker import main

    argv = ["--host", host, "--port", str(port), "--credentials-file", str(credentials_file)]
    code = main([*argv, *(["--ready-file", str(ready_file)] if ready_file else [])])
    if code:
        errors.print("[dim]the embedded broker needs the extra: pip install 'shoal[broker]'[/]")
    raise typer.Exit(code)
