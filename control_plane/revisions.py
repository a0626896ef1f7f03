"""Turns a component and the model it names into what nodes are told to run, and notices when that has changed.

Called by `core.py` for each component that an event touched. Two descriptions with the same digest run the same;
another digest is another revision, which `reconcile.py` rolls out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from ..descriptions.kinds import Model
from ..descriptions.kinds.application import Component, InferenceRun, ProcessRun
from ..descriptions.messages.codec import encode
from ..descriptions.messages.desired import (
    Artifact,
    InferenceTask,
    ListenPort,
    ProcessTask,
    ReadyCheck,
    ReplicaSpec,
    Task,
)

BLOB_PATH = "/v1/blobs/"
"""Where the API serves contents by digest."""


@dataclass(frozen=True)
class Recipe:
    """What a component runs, as described now."""

    template: ReplicaSpec
    """Without id and revision."""
    secrets: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Unready:
    """Why a component cannot run yet; something else has to happen first."""

    reason: str
    """One CamelCase word."""
    message: str


def recipe_of(
    application: str,
    component: Component,
    models: Mapping[str, Model],
    secret_versions: Mapping[str, int],
    siblings: Mapping[str, Component],
) -> Recipe | Unready:
    """Say what to run; `siblings` are the components of the application by name, `secret_versions` by secret."""
    missing = [name for name in component.secrets if name not in secret_versions]
    if missing:
        return Unready("SecretMissing", f"secret {missing[0]!r} does not exist: create it, or leave it out")
    task = _task_of(component, models)
    if isinstance(task, Unready):
        return task
    template = ReplicaSpec(
        id="",
        application=application,
        component=component.name,
        revision=0,
        task=task,
        cpu=component.resources.cpu,
        memory_bytes=_memory_bytes(component, models),
        interacts=_interacts(component, siblings),
        single_instance=component.single_instance,
    )
    return Recipe(template, component.secrets, _digest(template, component, secret_versions))


def _task_of(component: Component, models: Mapping[str, Model]) -> Task | Unready:
    if component.inference is not None:
        return _inference_task(component.inference, models.get(component.inference.model))
    if component.process is not None:
        return _process_task(component.process)
    return Unready("NoContainerMechanism", "no mechanism on any node runs containers: use `process` or `inference`")


def _inference_task(run: InferenceRun, model: Model | None) -> InferenceTask | Unready:
    if model is None:
        return Unready("ModelMissing", f"model {run.model!r} does not exist: apply its description")
    artifact = _artifact_of(model)
    if isinstance(artifact, Unready):
        return artifact
    return InferenceTask(
        model=run.model,
        version=model.spec.version,
        format=model.spec.format,
        artifact=artifact,
        plugin=run.plugin or "",
        device=run.device,
        options=_raw(run.options),
        predictor=model.spec.predictor or "",
    )


def _artifact_of(model: Model) -> Artifact | Unready | None:
    """Where nodes fetch the bytes; None for predictors that are on the node already."""
    name, source, status = model.metadata.name, model.spec.source, model.status
    if source.url is not None:
        if source.sha256 is None:
            return Unready("DigestMissing", f"model {name!r} has a url and no sha256: nodes would not trust the bytes")
        return Artifact(source.url, source.sha256, source.size or 0)
    sha256 = source.sha256 or (status.sha256 if status is not None else None)
    if status is not None and status.stored and sha256 is not None and status.sha256 == sha256:
        return Artifact(BLOB_PATH + sha256, sha256, status.size or source.size or 0)
    if model.spec.format == "python" and source.file is None and source.sha256 is None:
        return None
    return Unready("ModelNotUploaded", f"the contents of model {name!r} are not uploaded yet: `shoal apply` does it")


def _process_task(run: ProcessRun) -> ProcessTask:
    ready = run.readiness
    return ProcessTask(
        command=run.command,
        env=dict(run.env),
        restart=run.restart.value,
        ports=tuple(ListenPort(port.name, port.port) for port in run.ports),
        ready=None if ready is None else ReadyCheck(ready.port, ready.path or "", ready.timeout),
        stop_grace_s=run.stop_grace,
        open_files=run.open_files,
    )


def _memory_bytes(component: Component, models: Mapping[str, Model]) -> int:
    if component.resources.memory or component.inference is None:
        return component.resources.memory
    model = models.get(component.inference.model)
    return (model.spec.memory or 0) if model is not None else 0


def _interacts(component: Component, siblings: Mapping[str, Component]) -> tuple[str, ...]:
    """Models of the components that it talks to; the node's gateway follows where they are served."""
    found = {
        sibling.inference.model
        for interaction in component.interactions
        if (sibling := siblings.get(interaction.to)) is not None and sibling.inference is not None
    }
    return tuple(sorted(found))


def _raw(options: Mapping[str, object]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value, order="sorted")) for name, value in sorted(options.items())}


def _digest(template: ReplicaSpec, component: Component, secret_versions: Mapping[str, int]) -> str:
    """Over all that a running replica would have to be replaced for: also where it may stand."""
    where = component.model_dump_json(include={"placement", "resources", "sensors", "accelerators"})
    hashed = hashlib.sha256(encode(template))
    hashed.update(where.encode())
    for name in component.secrets:
        hashed.update(f"\n{name}@{secret_versions[name]}".encode())
    return hashed.hexdigest()
