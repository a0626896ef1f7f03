"""Serves models on the node: fetches their bytes, keeps the gateway running and tells it what to serve.

The agent's runner for `inference` components. Loading, batching, restarting workers and swapping versions without a
failed request are the gateway's (`agents/inference/`); this is its only client. Gateway and workers outlive the agent.
`serving_session.py` does the work, this is its face: options, the runner's calls, verbs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ..descriptions.errors import ProtocolError, RefusedError, ShoalError, TransportError
from ..descriptions.mechanism import MechanismCommand, Options, Outcome, Status
from ..descriptions.messages.desired import ReplicaSpec
from ..descriptions.messages.gateway import ServingReport
from ..descriptions.messages.lease import Routes
from ..descriptions.options import option
from .arguments import argument, done, refused, status, verb
from .gateway import Gateway
from .runner import Host, Observation, Runner
from .serving import ToldRecords
from .serving_session import MIB, ServingSession
from .transfer.cache import Cache

APPLY_S = 30.0


@dataclass
class _Opened:
    """Filled by `open`: the dataclass itself is frozen, its fields are options."""

    session: ServingSession | None = None
    loop: asyncio.AbstractEventLoop | None = None


@dataclass(frozen=True)
class Inference(Runner):
    """Serve models through the node's gateway."""

    plugins: tuple[str, ...] = ("onnx", "litert", "python")
    """Inference plugins that the gateway may load."""
    cache_quota: int = option(2 * 1024 * MIB, unit="bytes", ge=MIB)
    """Bytes of models kept on disk; the least recently used goes first."""
    model_max: int = option(2 * 1024 * MIB, unit="bytes", ge=1)
    """Largest model that is fetched."""
    downloads: int = option(2, ge=1, le=16)
    """Downloads at once."""
    enforce_memory: bool = False
    """Limit the address space of a worker to the description's memory; runtimes reserve far more than they use."""
    _opened: _Opened = field(init=False, repr=False, compare=False, default_factory=_Opened)

    @property
    def session(self) -> ServingSession:
        """What runs between `open` and `close`."""
        assert self._opened.session is not None, "open comes first"
        return self._opened.session

    @property
    def gateway_url(self) -> str:
        """Where components on this node reach the gateway; empty when it is not up."""
        return self.session.gateway.url

    # --- runner -------------------------------------------------------------------------------------------------

    async def open(self, host: Host) -> None:
        """Take over a gateway that runs."""
        cache = Cache(host.state_dir / "models", host.origins, self.cache_quota, self.downloads)
        records = ToldRecords(host.runtime_dir / "serving")
        gateway = Gateway(host, self.plugins)
        self._opened.session = ServingSession(host, gateway, cache, records, self.model_max, self.enforce_memory)
        self._opened.loop = asyncio.get_running_loop()
        await self.session.open()

    async def start(self, spec: ReplicaSpec, digest: str) -> Observation:
        """Fetch and load in the background."""
        return await self.session.start(spec, digest)

    async def stop(self, replica: str, digest: str, drain_s: float) -> None:
        """Stop fetching or serving it; what the gateway is about to swap out is left to it."""
        await self.session.stop(replica, digest, drain_s)

    async def observe(self) -> tuple[Observation, ...]:
        """What is on its way, and what the gateway has."""
        return await self.session.observe()

    def log_file(self, replica: str) -> Path | None:
        """What the newest worker of the replica wrote."""
        found = (self.session.gateway.folder / "logs").glob(f"{replica}*")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    async def close(self) -> None:
        """Stop downloads; the gateway goes on."""
        await self.session.close()

    # --- routes and statistics ----------------------------------------------------------------------------------

    async def watch(self, models: frozenset[str]) -> None:
        """These models are called from this node: the gateway has to be up, and forgets the routes of all others."""
        await self.session.watch(models)

    async def route(self, routes: Routes) -> None:
        """Which nodes serve a model; told again whenever the gateway is new."""
        await self.session.route(routes)

    async def serving(self) -> tuple[ServingReport, ...]:
        """The gateway's own figures of each replica; none when it is not up."""
        try:
            return await self.session.reports()
        except (TransportError, ProtocolError, RefusedError):
            return ()

    # --- mechanism ----------------------------------------------------------------------------------------------

    def options(self) -> Options:
        """`restart` and `setOptions`, of replicas that are served; and which inference plugins the gateway may load."""
        doc = "Options of the inference plugin, over those of the description; null takes all of them back."
        return Options(
            (
                verb("restart", "Load a replica, or all of a component, anew; no request fails."),
                verb("setOptions", doc, options={"type": ["object", "null"]}),
            ),
            runs=self.plugins,
        )

    def status(self) -> Status:
        """Model and version of each replica."""
        return Status(
            tuple(
                status(told.spec.id, model=told.serving.model, version=told.serving.version)
                for _, told in sorted(self.session.told.items())
            )
        )

    def apply(self, command: MechanismCommand) -> Outcome:
        """Swap every served replica of the target to other options, or to the same ones in a fresh worker."""
        if not command.target:
            return refused(command, f"{command.verb} needs a replica or a component as target")
        if command.verb == "setOptions":
            return self._set_options(command)
        if command.verb != "restart":
            return refused(command, f"inference has no verb {command.verb!r}")
        count = self._swap(command.target, command.id)
        return done(command, f"told {count}") if count else refused(command, f"{command.target} is not served here")

    def inverse(self, command: MechanismCommand) -> MechanismCommand | None:
        """The options of before."""
        if command.verb != "setOptions":
            return None
        before = msgspec.Raw(msgspec.json.encode(self.session.overlays.get(command.target) or None))
        return msgspec.structs.replace(command, id=f"{command.id}/undo", arguments={"options": before})

    def _set_options(self, command: MechanismCommand) -> Outcome:
        """Options that a worker refuses are taken back at once: what serves goes on with the old ones."""
        options, overlays = argument(command, "options", object), self.session.overlays
        if options is not None and not isinstance(options, dict):
            return refused(command, "setOptions: options must be a mapping or null")
        before = overlays.get(command.target, {})
        raw = bytes(command.arguments["options"])
        overlays[command.target] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | None) or {}
        try:
            return done(command, f"told {self._swap(command.target)}")
        except ShoalError:
            overlays[command.target] = before
            raise

    def _swap(self, target: str, restart_id: str = "") -> int:
        assert self._opened.loop is not None
        swap = self.session.swap(target, restart_id)
        return asyncio.run_coroutine_threadsafe(swap, self._opened.loop).result(APPLY_S)
