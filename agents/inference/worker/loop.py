"""A worker's life: load one model, answer frames in the order they come, end when the gateway is gone.

The zygote calls `serve` in the forked child. Requests are parsed, run and answered here; a wrong request gets 400, a
plugin that raises 500, and neither ends the worker. A crash does: the gateway sees the socket close.
"""

from __future__ import annotations

import gc
import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ....descriptions.errors import DescriptionError, PluginError, ProtocolError, RefusedError
from ..frames import Buffer, Frame, FrameType, pack_fields, unpack_fields
from ..plugins import build_plugin
from ..plugins.plugin import LoadedModel, ModelFile
from . import content, v2_request, v2_response
from .channel import Channel
from .v2_request import Signature


@dataclass
class Counters:
    """What STATS answers; all since the worker started. Times in nanoseconds."""

    requests: int = 0
    failures: int = 0
    elements: int = 0
    """Batch elements answered (first dimension of the first input)."""
    executions: int = 0
    """Calls of `predict`."""
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: str
    shape: tuple[int, ...]


class Metadata(msgspec.Struct, frozen=True):
    """Answer of `GET /v2/models/{model}`, as the worker knows it."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


def serve(channel: Channel, plugin_classes: dict[str, str], body_len_max: int) -> None:
    """Answer frames until the gateway closes the socket or drains this worker."""
    frame = channel.receive()
    if frame is None:
        return
    if frame.type != FrameType.LOAD:
        raise ProtocolError(f"the first frame has type {frame.type}, expected LOAD")
    worker = _load(channel, frame, plugin_classes, body_len_max)
    if worker is None:
        return
    gc.collect()
    gc.freeze()  # what was loaded stays; later collections needn't look at it
    try:
        while (frame := channel.receive()) is not None and worker.handle(frame):
            pass
    finally:
        worker.model.unload()


def _load(channel: Channel, frame: Frame, plugin_classes: dict[str, str], body_len_max: int) -> Worker | None:
    fields = unpack_fields(frame.fields)
    plugin_name = fields["plugin"]
    try:
        options = msgspec.json.decode(bytes(frame.body) or b"{}", type=dict[str, object])
        plugin = build_plugin(plugin_name, options, plugin_classes)
        model = plugin.load(_model_file(fields), fields["device"])
    except (DescriptionError, PluginError, RefusedError, msgspec.DecodeError) as error:
        channel.send(FrameType.ERROR, frame.id, pack_fields({":status": "400"}), [str(error).encode()])
        return None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the plugin's border
        text = f"{plugin_name} can't load {fields['path']}: {type(error).__name__}: {error}"
        channel.send(FrameType.ERROR, frame.id, pack_fields({":status": "500"}), [text.encode()])
        return None
    signature = Signature(
        fields["model"], fields["version"], model.inputs, model.outputs, model.optional_outputs, model.is_open
    )
    worker = Worker(channel, model, signature, plugin_name, body_len_max)
    ready = pack_fields({"device": model.device, "reason": _one_line(model.reason)})
    channel.send(FrameType.READY, frame.id, ready, [worker.metadata()])
    return worker


def _model_file(fields: dict[str, str]) -> ModelFile:
    folders = tuple(Path(folder) for folder in fields.get("code-folders", "").split(os.pathsep) if folder)
    return ModelFile(fields["model"], fields["version"], Path(fields["path"]), folders)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@dataclass
class Worker:
    """A loaded model and the socket that its requests come by."""

    channel: Channel
    model: LoadedModel
    signature: Signature
    plugin: str
    body_len_max: int
    counters: Counters = field(default_factory=Counters)

    def handle(self, frame: Frame) -> bool:
        """Answer one frame; False when it was the last."""
        match frame.type:
            case FrameType.INFER:
                self._infer(frame)
            case FrameType.PING:
                self.channel.send(FrameType.PONG, frame.id, body=[frame.body[:64]])
            case FrameType.STATS:
                self.channel.send(FrameType.STATS, frame.id, body=[msgspec.json.encode(self.counters)])
            case FrameType.METADATA:
                self.channel.send(FrameType.METADATA, frame.id, body=[self.metadata()])
            case FrameType.DRAIN:
                self.channel.send(FrameType.DRAIN, frame.id)
                return False
            case _:
                raise ProtocolError(f"a worker doesn't take frames of type {frame.type}")
        return True

    def metadata(self) -> bytes:
        """The model as clients see it."""
        inputs, outputs = (
            tuple(_Tensor(spec.name, spec.datatype, spec.shape) for spec in specs)
            for specs in (self.signature.inputs, self.signature.outputs)
        )
        return msgspec.json.encode(
            Metadata(self.signature.model, (self.signature.version,), self.model.platform, inputs, outputs)
        )

    def _infer(self, frame: Frame) -> None:
        self.counters.requests += 1
        try:
            fields, body = self._answer(frame)
        except RefusedError as error:
            refusal = msgspec.json.encode({"error": str(error)})
            fields, body = {":status": "400", "content-type": "application/json"}, [refusal]
        except PluginError as error:
            self.counters.failures += 1
            traceback.print_exception(error)  # for the operator, in the replica's log
            self.channel.send(FrameType.ERROR, frame.id, pack_fields({":status": "500"}), [str(error).encode()])
            return
        self.channel.send(FrameType.RESULT, frame.id, pack_fields(fields), body)

    def _answer(self, frame: Frame) -> tuple[dict[str, str], list[Buffer]]:
        started = time.perf_counter_ns()
        fields = unpack_fields(frame.fields)
        body = content.decode(fields.get("content-encoding"), frame.body, self.body_len_max)
        request = v2_request.parse(fields.get("inference-header-content-length"), body, self.signature)
        parsed = time.perf_counter_ns()
        try:
            outputs = self.model.predict(request.batch)
        except (RefusedError, PluginError):
            raise
        except (Exception, SystemExit) as error:  # the plugin's border; sys.exit must not end the worker
            raise PluginError(self.plugin, f"predict raised {type(error).__name__}: {error}") from error
        ran = time.perf_counter_ns()
        answer = v2_response.render(request, outputs, self.signature, self.plugin)
        counters = self.counters
        counters.executions += 1
        first = next(iter(request.batch.inputs.values()))
        counters.elements += first.shape[0] if first.ndim else 1
        counters.compute_input_ns += parsed - started
        counters.compute_infer_ns += ran - parsed
        counters.compute_output_ns += time.perf_counter_ns() - ran
        return answer
