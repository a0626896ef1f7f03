"""`shoal control-plane`: puts store, keys, broker, link, planner, API and the core's driver together.

What outlives a life of the core (store, link, API, planner) is made here; `driver.py` lives within. When a life ends
because a commit failed, the next one starts from the rows; when another process leads, or the disk is in doubt, the
process ends and says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import __version__
from ..descriptions.errors import DescriptionError, ShoalError
from ..descriptions.kinds import Slice
from ..descriptions.kinds.meta import Metadata
from ..descriptions.topics import control_plane_subscriptions
from ..telemetry.credentials import CONTROL_PLANE
from ..telemetry.link import Link
from ..telemetry.link_options import LinkOptions, LinkState, Presence
from ..telemetry.logs import set_up_logging
from ..telemetry.windows import Windows
from .api.server import ApiOptions, ApiServer
from .api.tokens import ensure_admin
from .config import ControlPlaneOptions
from .contents import contents_swept
from .discovery import announced
from .documents import to_document
from .driver import Driver, World
from .enrolment import Invitation
from .exporting import exporting
from .keys import Keys, load_keys
from .node_commands import NodeCommands
from .own_broker import OwnBroker
from .planning import Planning
from .services import ControlPlaneServices
from .store.errors import FencedError, StoreError
from .store.store import Store
from .store.transaction import Transaction
from .wire import Wire, presence_of

logger = logging.getLogger(__name__)

QUEUE_MAX = 20_000
"""Messages that may wait on either side of the link: a fleet's reports after a reconnect."""
IN_FLIGHT_MAX = 200
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before the second, third, … life in a row."""
SWITCH_S = 0.0001
"""How long another thread may hold the interpreter while the event loop waits for it; the loop gives it up with each
system call, so this is what a message costs while a plan is made."""


@dataclass
class ControlPlane:
    """One process's control plane; make it with `control_plane(options)`."""

    options: ControlPlaneOptions
    world: World
    keys: Keys
    broker_url: str
    driver: Driver | None = None
    api_url: str = ""
    failed: ShoalError | None = None
    """Why it can't go on; only another process can."""
    led: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the core deals with events."""

    def invitation(self) -> Invitation:
        """What joining nodes are told."""
        return Invitation(
            slice=self.options.slice,
            api_url=self.options.api.advertise or self.api_url,
            broker_url=self.options.broker.advertise or self.broker_url,
            verify_keys=(self.keys.signing.verify_key,),
        )

    def password(self, uid: str) -> str:
        """A node's password at the broker."""
        return self.keys.broker.password(uid) if self.options.broker.node_passwords == "derived" else ""

    async def live(self) -> None:
        """One life after another, until `failed`."""
        lives = 0
        while self.failed is None:
            self.driver = Driver(self.world, self.led.set)
            try:
                await self.driver.live(is_first=not lives)
            except* FencedError as group:
                self.failed = ShoalError(str(group.exceptions[0]))
            except* StoreError as group:
                self.failed = self.world.store.failed
                logger.warning("the core starts again from the rows: %s", group.exceptions[0])
            finally:
                self.led.clear()
                self.driver = None
            await asyncio.sleep(PAUSES_S[min(lives, len(PAUSES_S) - 1)] if self.failed is None else 0.0)
            lives += 1
        raise self.failed

    def link_changed(self, state: LinkState) -> None:
        """Tell the present life."""
        if self.driver is not None:
            self.driver.link_changed(state)

    async def until_ready(self) -> None:
        """Return when the core deals with events and the broker is connected."""
        await self.led.wait()
        await self.world.wire.link.wait_for(LinkState.CONNECTED)


@asynccontextmanager
async def control_plane(options: ControlPlaneOptions) -> AsyncIterator[ControlPlane]:
    """A control plane with its API, for as long as the block lasts; `live` must run within."""
    async with AsyncExitStack() as stack:
        keys = await asyncio.to_thread(load_keys, options.state, options.slice)
        broker_url = options.broker.url or await _own_broker(stack, options, keys)
        store = await stack.enter_async_context(await Store.open(options.database_url))
        await store.write(lambda tx: _first_start(tx, options))
        plane_of: list[ControlPlane] = []
        link = Link(_link_options(options, keys, broker_url, lambda session: _presence(options, plane_of, session)))
        wire = Wire(options.slice, keys.signing, link, store.blobs)
        stack.push_async_callback(wire.close)
        await stack.enter_async_context(contents_swept(store, lambda: tuple(wire.large.values())))
        planning = await stack.enter_async_context(Planning(options.policies))
        commands = NodeCommands(wire, lambda: plane_of[0].driver.fence if plane_of[0].driver else 0)
        holder = f"{socket.gethostname()}:{os.getpid()}"
        world = World(options.slice, holder, store, wire, planning, Windows(), commands)
        await stack.enter_async_context(exporting(options, world.windows, world.clock))
        plane = ControlPlane(options, world, keys, broker_url)
        plane_of.append(plane)
        services = ControlPlaneServices(world, lambda: plane.driver, plane.invitation, plane.password)
        link.on_state(plane.link_changed)
        await stack.enter_async_context(link)
        api = await stack.enter_async_context(ApiServer(store, services, _api_options(options)))
        plane.api_url = api.url
        if options.discovery:
            await stack.enter_async_context(announced(options.slice, plane.invitation().api_url, __version__))
        yield plane


def serve(options: ControlPlaneOptions, *, ready_file: Path | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code: 0 when told to stop, 1 when it could not go on."""
    set_up_logging(options.log_level, options.log_format)
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(options, ready_file))
    except ShoalError as error:
        logger.error("%s", error)  # noqa: TRY400 - said in words, a traceback helps nobody
        return 1
    return 0


async def _serve(options: ControlPlaneOptions, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with control_plane(options) as plane:
        life = asyncio.create_task(plane.live(), name="core")
        told = asyncio.create_task(_tell_ready(plane, ready_file), name="ready")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        done, waiting = await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in {*waiting, told}:
            task.cancel()
        ending: list[asyncio.Future[Any]] = [*waiting, told]
        await asyncio.gather(*ending, return_exceptions=True)
        for task in done:
            task.result()


async def _tell_ready(plane: ControlPlane, ready_file: Path | None) -> None:
    await plane.until_ready()
    logger.info("slice=%s serving at %s, broker %s", plane.options.slice, plane.api_url, plane.broker_url)
    if ready_file is not None:
        partial = ready_file.with_name(f"{ready_file.name}.partial")
        partial.write_text(plane.api_url)
        partial.replace(ready_file)


async def _own_broker(stack: AsyncExitStack, options: ControlPlaneOptions, keys: Keys) -> str:
    broker = await stack.enter_async_context(OwnBroker(options.state / "broker", keys.broker, options.broker.port))
    watch = asyncio.create_task(broker.watch(), name="broker")
    stack.callback(watch.cancel)
    return broker.url


def _first_start(tx: Transaction, options: ControlPlaneOptions) -> None:
    if tx.get("Slice", options.slice) is None:
        described = Slice(metadata=Metadata(name=options.slice))
        tx.put("Slice", options.slice, to_document(described), expected_version=0, new_generation=True)
    if ensure_admin(tx, options.admin_token_file):
        logger.info("the admin's token is in %s", options.admin_token_file)


def _presence(options: ControlPlaneOptions, planes: list[ControlPlane], session: str) -> Presence:
    driver = planes[0].driver if planes else None
    fence, epoch = (driver.fence, driver.epoch) if driver is not None else (0, 0)
    return presence_of(options.slice, session, fence, epoch, __version__)


def _link_options(
    options: ControlPlaneOptions, keys: Keys, url: str, presence: Callable[[str], Presence]
) -> LinkOptions:
    broker = options.broker
    return LinkOptions(
        url=url,
        client_id=broker.username,
        username=broker.username,
        password=_password(options, keys),
        tls=ssl.create_default_context(cafile=str(broker.ca)) if broker.ca is not None else None,
        subscriptions=tuple((topic, 1) for topic in control_plane_subscriptions(options.slice)),
        presence=presence,
        inflight_max=IN_FLIGHT_MAX,
        send_control_max=QUEUE_MAX,
        receive_control_max=QUEUE_MAX,
        backoff_cap_s=5.0,
    )


def _password(options: ControlPlaneOptions, keys: Keys) -> str:
    file = options.broker.password_file
    if file is None:
        return keys.broker.password(CONTROL_PLANE)
    try:
        with file.open("rb") as stream:
            return stream.read(4096).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptionError(f"cannot be read: {error}", file=str(file), path="broker.passwordFile") from None


def _api_options(options: ControlPlaneOptions) -> ApiOptions:
    api = options.api
    return ApiOptions(
        host=api.host,
        port=api.port,
        tls_certificate=api.certificate,
        tls_key=api.certificate_key,
        allow_plaintext=api.allow_plaintext,
        insecure=api.insecure,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
