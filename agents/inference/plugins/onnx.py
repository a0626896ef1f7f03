"""ONNX models by ONNX Runtime, set for a small machine that runs many of them.

Source of the session settings: ONNX Runtime "Thread management" and "Memory" pages. Threads don't spin between
requests, an operator runs in one thread unless asked otherwise, and the arena that would keep the largest request's
memory for ever is off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ....descriptions.errors import PluginError, RefusedError
from .plugin import Batch, InferencePlugin, LoadedModel, ModelFile, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .plugin import Tensors

DATATYPE = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""Tensors of other types (bfloat16, complex) can't come out of a numpy array."""
CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": (),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider",),
    "xnnpack": ("XnnpackExecutionProvider",),
}
"""By the device's name before the colon; the CPU is always the last resort."""


@dataclass(frozen=True)
class Onnx(InferencePlugin):
    """Serve a `.onnx` file."""

    intra_op_threads: int = 1
    """Threads that share one operator; 0 is one a core."""
    execution_providers: tuple[str, ...] = ()
    """ONNX Runtime names, best first, instead of those of the device."""
    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "all"
    allow_spinning: bool = False
    """Threads poll between operators: quicker by microseconds, at a full core each."""
    memory_arena: bool = False
    """Keep freed tensors for the next request."""
    prepacking: bool = True
    """Copy weights into the layout that kernels like best; False leaves them in the page cache, shared by workers."""

    @classmethod
    def preload(cls) -> None:
        """Import ONNX Runtime without its uploader: from 1.29 on it sends usage data and starts a thread to do so."""
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)

    def load(self, model: ModelFile, device: str) -> LoadedModel:
        """Open a session; `PluginError` when the file is no model or none of its outputs is a tensor."""
        self.preload()
        import onnxruntime

        wanted = self.execution_providers or _providers_of(device)
        available = onnxruntime.get_available_providers()
        chosen = [name for name in wanted if name in available and name != CPU]
        session = onnxruntime.InferenceSession(
            str(model.path), self._session_options(), providers=[*_with_device_ids(chosen, device), CPU]
        )
        return OnnxModel(session, model, wanted, device)

    def _session_options(self) -> Any:
        import onnxruntime

        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.intra_op_threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = self.memory_arena
        options.graph_optimization_level = {
            "disabled": levels.ORT_DISABLE_ALL,
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[self.graph_optimization]
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if self.allow_spinning else "0")
        options.add_session_config_entry("session.disable_prepacking", "0" if self.prepacking else "1")
        options.log_severity_level = 3
        return options


class OnnxModel(LoadedModel):
    """A session."""

    platform = "onnxruntime_onnx"

    def __init__(self, session: Any, model: ModelFile, wanted: Iterable[str], device: str) -> None:
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        self._session = session
        self._invalid_argument: type[Exception] = InvalidArgument
        self.inputs = _tensor_specs(session.get_inputs())
        self.outputs = _tensor_specs(session.get_outputs())
        unusable = [node for node in session.get_inputs() if node.type not in DATATYPE]
        if unusable:
            raise PluginError(
                "onnx", f"input {unusable[0].name!r} of {model.name} is {unusable[0].type}, not supported"
            )
        if not self.outputs:
            kinds = ", ".join(f"{node.name} is {node.type}" for node in session.get_outputs())
            raise PluginError("onnx", f"no output of {model.name} is a tensor ({kinds}); export it with zipmap=False")
        self._shared_sizes = _shared_sizes(session.get_inputs())
        self._texts = {spec.name for spec in self.inputs if spec.datatype == "BYTES"}
        self.device, self.reason = _achieved(session, wanted, device)

    def predict(self, batch: Batch) -> Tensors:
        """Run the session for the wanted outputs only."""
        inputs = batch.inputs
        for symbol, places in self._shared_sizes:
            sizes = {name: inputs[name].shape[axis] for name, axis in places}
            if len(set(sizes.values())) > 1:
                told = ", ".join(f"{size} in {name!r}" for name, size in sizes.items())
                raise RefusedError(f"dimension {symbol!r} has different sizes: {told}")
        if self._texts:
            inputs = {name: _as_text(name, array) if name in self._texts else array for name, array in inputs.items()}
        try:
            values = self._session.run(batch.outputs, inputs)
        except self._invalid_argument as error:
            raise RefusedError(str(error)) from None
        return dict(zip(batch.outputs, values, strict=True))


def _shared_sizes(nodes: Iterable[Any]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Dimensions with a name that stand in several places: `(name, [(input, axis), …])`."""
    places: dict[str, list[tuple[str, int]]] = {}
    for node in nodes:
        for axis, size in enumerate(node.shape):
            if isinstance(size, str) and size:
                places.setdefault(size, []).append((node.name, axis))
    return [(symbol, found) for symbol, found in places.items() if len(found) > 1]


def _as_text(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """ONNX Runtime takes text from Python, and would write `b'…'` for bytes."""
    import numpy as np

    try:
        texts = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        raise RefusedError(f"input {name!r} holds bytes that are not UTF-8, which ONNX Runtime can't take") from None
    return np.array(texts, object).reshape(array.shape)


def _tensor_specs(nodes: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, DATATYPE[node.type], tuple(_dimension(size) for size in node.shape))
        for node in nodes
        if node.type in DATATYPE
    )


def _dimension(size: object) -> int:
    """Symbolic and unknown sizes are -1."""
    return size if isinstance(size, int) and size >= 0 else -1


def _providers_of(device: str) -> tuple[str, ...]:
    kind = device.partition(":")[0]
    if kind not in PROVIDERS:
        raise PluginError("onnx", f"device {device!r} is unknown; known are {', '.join(PROVIDERS)}")
    return PROVIDERS[kind]


def _with_device_ids(names: list[str], device: str) -> list[Any]:
    """Providers of graphics cards take the number after the colon."""
    _, _, number = device.partition(":")
    return [
        (name, {"device_id": number}) if number and ("CUDA" in name or "Tensorrt" in name) else name for name in names
    ]


def _achieved(session: Any, wanted: Iterable[str], device: str) -> tuple[str, str]:
    """What the session runs on, and why that is not what was asked for."""
    active = session.get_providers()
    missing = [name for name in wanted if name not in active and name != CPU]
    if not missing:
        return device, ""
    told = device if active[0] != CPU else "cpu"
    return told, f"{', '.join(missing)} not available here; running on {', '.join(active)}"
