"""The policies of one control plane: finds them by name, checks their options, counts their faults, fences the
broken.

`decide.py` asks which policies decide for an application. Built-ins run here, plugins behind `remote.py`. Three
faults fence a policy: the built-in `balanced` decides in its place until it is loaded again. Used by one thread at a
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

import msgspec

from ...descriptions.errors import DescriptionError, PluginError
from ...descriptions.kinds import Application
from ...descriptions.kinds.meta import PluginUse
from ...descriptions.option_fields import camel
from ...descriptions.options import read_options
from ...descriptions.phrases import nearest
from ...policies.balanced import Balanced
from ...policies.frames import Loaded
from ...policies.loading import described
from ...policies.policy import Policy
from ...policies.registry import PolicySettings, Source, load, sources
from .decider import Decider
from .fence import Fence
from .local import Local
from .remote import Remote, RemoteHost
from .snapshot import PolicyFault, Snapshot

BUILT_IN = "balanced"
"""Decides where another policy can't."""

BOUND_KEPT_MAX = 1024

_JSON = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True)
class Seat:
    """One policy that an application wants, and who really decides."""

    use: PluginUse
    decider: Decider | None
    """None where the policy can't be asked."""
    fault: str = ""
    """Why it can't."""


@dataclass(frozen=True)
class PolicyInfo:
    """An enabled policy, for `shoal get policies` and the API."""

    source: Source
    loaded: Loaded


class Policies:
    """Enabled policies; as a context manager it ends the processes of plugins."""

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self.settings = settings or PolicySettings()
        self.fence = Fence()
        self._sources: dict[str, Source] = sources(self.settings)
        self._classes: dict[str, type[Policy]] = {}
        self._hosts: dict[str, RemoteHost] = {}
        self._bound: dict[tuple[str, float, bytes], Decider] = {}

    def __enter__(self) -> Policies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the policy processes."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()
        self._bound.clear()

    def names(self) -> tuple[str, ...]:
        """Every enabled policy, sorted."""
        return tuple(sorted(self._sources))

    def info(self, name: str) -> PolicyInfo:
        """What a policy is; starts the process of a plugin. Raises as `check` does."""
        source = self._source(name)
        if source.kind == "built-in":
            return PolicyInfo(source, described(self._class(source), b""))
        return PolicyInfo(source, self._host(source).loaded)

    def check(self, use: PluginUse) -> None:
        """Raise `DescriptionError` where the name isn't enabled or the options don't fit, `PluginError` where it
        can't be loaded; for admission by the API.
        """
        self.bind(use)

    def bind(self, use: PluginUse) -> Decider:
        """A policy with options; raises as `check` does."""
        key = (use.use, use.weight, _JSON.encode(use.options))
        decider = self._bound.get(key)
        if decider is None:
            if len(self._bound) >= BOUND_KEPT_MAX:
                self._bound.clear()
            decider = self._bound[key] = self._made(use)
        return decider

    def seats(self, snapshot: Snapshot, application: Application) -> list[Seat]:
        """Who should decide for an application: its own policies or the slice's, and the Policy objects that apply."""
        return [self._seat(use) for use in uses_of(snapshot, application)]

    def substitute(self, weight: float = 1.0) -> Decider:
        """The built-in that decides where another policy can't."""
        return Local(BUILT_IN, Balanced(), weight)

    def refresh(self) -> tuple[PolicyFault, ...]:
        """Look for added, changed and removed policy files; what was loaded again is no longer fenced.

        A file that can't be loaded is told as a fault, and what was loaded before goes on deciding.
        """
        found = sources(self.settings)
        for name in sorted(self._hosts.keys() - found.keys()):
            self._hosts.pop(name).close()
            self._forget(name)
        self._sources = found
        faults = []
        for name, host in sorted(self._hosts.items()):
            try:
                if host.reload():
                    self.fence.forgive(name)
                    self._forget(name)
            except PluginError as error:
                faults.append(self.fence.note(name, error.message))
        return tuple(faults)

    def _seat(self, use: PluginUse) -> Seat:
        if fenced := self.fence.reason(use.use):
            return Seat(use, None, fenced)
        try:
            return Seat(use, self.bind(use))
        except (DescriptionError, PluginError) as error:
            return Seat(use, None, str(error))

    def _made(self, use: PluginUse) -> Decider:
        source = self._source(use.use)
        options = self._merged(use, source)
        if source.kind != "built-in":
            return Remote.bound(self._host(source), use.weight, _JSON.encode(options).decode())
        policy = read_options(self._class(source), options)
        return Local(use.use, policy, use.weight, _JSON.encode(options).decode())

    def _source(self, name: str) -> Source:
        source = self._sources.get(name)
        if source is None:
            told = f"no policy {name!r} is enabled"
            raise DescriptionError(told, expected=", ".join(self.names()), nearest=nearest(name, self.names()))
        return source

    def _merged(self, use: PluginUse, source: Source) -> dict[str, object]:
        """Options of the description, with what the operator set over them; some only the operator may set."""
        is_here = source.kind == "built-in"
        own = self._class(source).operator_options if is_here else self._host(source).loaded.operator_options
        for field in sorted(own):
            if camel(field) in use.options:
                raise DescriptionError(f"{camel(field)} is for the operator's configuration", path="options")
        given = self.settings.options.get(use.use, {})
        if not isinstance(given, Mapping):
            raise DescriptionError("options of a policy are a mapping", path=f"policies.options.{use.use}")
        return {**use.options, **given}

    def _class(self, source: Source) -> type[Policy]:
        if source.name not in self._classes:
            self._classes[source.name] = load(source.target)
        return self._classes[source.name]

    def _host(self, source: Source) -> RemoteHost:
        host = self._hosts.get(source.name)
        if host is None:
            host = self._hosts[source.name] = RemoteHost(source, self.settings)
        return host

    def _forget(self, name: str) -> None:
        self._bound = {key: decider for key, decider in self._bound.items() if key[0] != name}


def uses_of(snapshot: Snapshot, application: Application) -> Iterable[PluginUse]:
    """Policies of the application or else of the slice, then the enabled Policy objects that select it, by name."""
    yield from application.spec.policies or snapshot.slice.spec.policies
    for policy in sorted(snapshot.policies, key=lambda one: one.metadata.name):
        wanted = policy.spec.applications
        if policy.spec.enabled and (not wanted or application.metadata.name in wanted):
            yield policy.spec
