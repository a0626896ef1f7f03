"""The embedded broker as a process: `python -m shoal.telemetry.broker --credentials-file F --ready-file F [--port N]`.

For one machine: it binds to loopback addresses only. `shoal demo`, `shoal control-plane` without a broker URL, and the
tests start it through `broker_process`. In production give the URL of a Mosquitto, EMQX or NATS instead.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import signal
import sys
from pathlib import Path

from ..descriptions.errors import RefusedError, ShoalError
from .credentials import BrokerCredentials, broker_password

__all__ = ["broker_password", "main", "serve"]

EXIT_FAILED, EXIT_REFUSED = 1, 4


async def serve(credentials: BrokerCredentials, host: str, port: int, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; the port goes to `ready_file` as soon as connections are accepted.

    `RefusedError` unless `host` is a loopback address.
    """
    if not ipaddress.ip_address(host).is_loopback:
        raise RefusedError(f"the embedded broker serves this machine only, not {host}; use Mosquitto for a network")
    from .broker_embedded import EmbeddedBroker  # amqtt is an extra

    broker = EmbeddedBroker(credentials, f"[{host}]" if ":" in host else host, port)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await broker.start()
    if ready_file is not None:
        partial = ready_file.with_name(ready_file.name + ".partial")
        partial.write_text(f"{broker.port}\n")
        partial.replace(ready_file)
    await stopped.wait()
    await broker.shutdown()


def main(argv: list[str] | None = None) -> int:
    """Parse arguments and serve; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shoal.telemetry.broker", description="Shoal's embedded MQTT broker"
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--ready-file", type=Path, help="where to write the port once it accepts connections")
    parser.add_argument("--credentials-file", type=Path, required=True, help="JSON {slice, key}, mode 0600")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("amqtt").setLevel(logging.ERROR)  # it warns of every malformed packet, and anybody can send those
    try:
        credentials = BrokerCredentials.load(arguments.credentials_file)
        asyncio.run(serve(credentials, arguments.host, arguments.port, arguments.ready_file))
    except RefusedError as error:
        print(f"shoal: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except (ShoalError, OSError, ValueError) as error:
        print(f"shoal: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
