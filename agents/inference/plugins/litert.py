"""TensorFlow Lite models by LiteRT (`ai-edge-litert`), or by `tflite-runtime` where only that exists.

An interpreter serves one thread at a time and has fixed shapes: a batch of another size resizes the inputs first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....descriptions.errors import PluginError, RefusedError
from .plugin import Batch, InferencePlugin, LoadedModel, ModelFile, TensorSpec

if TYPE_CHECKING:
    from .plugin import Tensors

DATATYPE = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bytes_": "BYTES",
    "object_": "BYTES",
}
"""By the numpy type that LiteRT names."""


@dataclass(frozen=True)
class LiteRt(InferencePlugin):
    """Serve a `.tflite` file."""

    threads: int = 1
    """Threads that share one operator."""

    @classmethod
    def preload(cls) -> None:
        """Import the interpreter, whichever is installed."""
        _interpreter_class()

    def load(self, model: ModelFile, device: str) -> LoadedModel:
        """Allocate the model's tensors; anything but the CPU is answered with the CPU and the reason."""
        interpreter = _interpreter_class()(model_path=str(model.path), num_threads=self.threads)
        interpreter.allocate_tensors()
        loaded = LiteRtModel(interpreter, model)
        if device != "cpu":
            loaded.reason = f"no delegate for {device!r} here; running on the CPU"
        return loaded


class LiteRtModel(LoadedModel):
    """An interpreter, addressed by the names of the model's signature, or of its tensors where it has none."""

    platform = "litert_tflite"

    def __init__(self, interpreter: Any, model: ModelFile) -> None:
        self._interpreter = interpreter
        self._inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
        self._outputs = {detail["name"]: detail for detail in interpreter.get_output_details()}
        if len(signatures := interpreter.get_signature_list()) == 1:
            (key,) = signatures
            runner = interpreter.get_signature_runner(key)
            self._inputs = runner.get_input_details()
            self._outputs = runner.get_output_details()
        self._shapes = {name: tuple(detail["shape"].tolist()) for name, detail in self._inputs.items()}
        self.inputs = tuple(_spec(name, detail, model) for name, detail in sorted(self._inputs.items()))
        self.outputs = tuple(_spec(name, detail, model) for name, detail in sorted(self._outputs.items()))

    def predict(self, batch: Batch) -> Tensors:
        """Resize where a shape changed, then run once."""
        self._fit({name: array.shape for name, array in batch.inputs.items()})
        for name, array in batch.inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(self._outputs[name]["index"]) for name in batch.outputs}

    def _fit(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Give the inputs these shapes; where the model can't have them, it keeps those it had."""
        if shapes == self._shapes:
            return
        try:
            self._allocate(shapes)
        except (RuntimeError, ValueError) as error:
            self._allocate(self._shapes)
            raise RefusedError(f"the model can't take inputs of these shapes: {error}") from None
        self._shapes = shapes

    def _allocate(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], list(shape))
        self._interpreter.allocate_tensors()


def _spec(name: str, detail: Any, model: ModelFile) -> TensorSpec:
    """Metadata of one tensor; a signature's shape has -1 where the fixed shape has a default."""
    datatype = DATATYPE.get(detail["dtype"].__name__)
    if datatype is None:
        raise PluginError("litert", f"tensor {name!r} of {model.name} is {detail['dtype'].__name__}, not supported")
    shape = detail.get("shape_signature", detail["shape"])
    return TensorSpec(name, datatype, tuple(int(size) for size in (shape if len(shape) else detail["shape"])))


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter  # pyright: ignore[reportMissingImports]
    return Interpreter
