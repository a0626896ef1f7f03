"""Any Python class with `predict` as a model: the code must be in a folder that the node's operator allowed.

The class may have `load()`, `close()`, `predict_proba(x)`, and `inputs` / `outputs` that declare its tensors as
`(name, datatype, shape)`. Without declarations it takes one tensor of any name, type and shape. `predict` is given the
array where the model has one input, a dict by name where it has several; it gives an array, or a dict by name.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ....descriptions.errors import PluginError
from .plugin import Batch, InferencePlugin, LoadedModel, ModelFile, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .plugin import Tensors

PREDICT = "predict"
PREDICT_PROBA = "predict_proba"
OPEN_INPUTS = (TensorSpec("input", "FP64", (-1, -1)),)


@dataclass(frozen=True)
class PythonPredictor(InferencePlugin):
    """Serve a class out of a `.py` file, or out of a folder of modules."""

    predictor: str = ""
    """`Class` of the file, or `module:Class` of the folder; empty where the file has one class with `predict`."""
    init_arguments: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments of the constructor."""

    @classmethod
    def preload(cls) -> None:
        """Predictors bring their own imports; only what every request needs is shared."""
        import numpy  # noqa: F401

    def load(self, model: ModelFile, device: str) -> LoadedModel:
        """Import the class, construct it and call its `load`; `PluginError` says what is missing."""
        path = _allowed(model)
        module_name, _, class_name = self.predictor.rpartition(":")
        found = _find_class(_import(path, module_name), class_name)
        predictor = found(**self.init_arguments)
        if hasattr(predictor, "load"):
            predictor.load()
        loaded = PredictorModel(predictor)
        if device != "cpu":
            loaded.reason = f"a predictor chooses its own device; {device!r} was not enforced"
        return loaded


class PredictorModel(LoadedModel):
    """A constructed predictor."""

    platform = "python"

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor
        declared = _specs(getattr(predictor, "inputs", ()))
        self.is_open = not declared
        self.inputs = declared or OPEN_INPUTS
        self.outputs = _specs(getattr(predictor, "outputs", ())) or (TensorSpec(PREDICT, "FP64", (-1,)),)
        if hasattr(predictor, PREDICT_PROBA) and PREDICT_PROBA not in {spec.name for spec in self.outputs}:
            self.outputs = (*self.outputs, TensorSpec(PREDICT_PROBA, "FP64", (-1, -1)))
            self.optional_outputs = frozenset({PREDICT_PROBA})

    def predict(self, batch: Batch) -> Tensors:
        """Call `predict`, and `predict_proba` where the request names it."""
        (only,) = batch.inputs.values() if len(batch.inputs) == 1 else (dict(batch.inputs),)
        outputs: dict[str, NDArray[Any]] = {}
        if set(batch.outputs) - self.optional_outputs:
            outputs |= self._named(self._predictor.predict(only))
        if self.optional_outputs & set(batch.outputs):
            outputs[PREDICT_PROBA] = _as_array(PREDICT_PROBA, self._predictor.predict_proba(only))
        return outputs

    def unload(self) -> None:
        """Call `close` where there is one."""
        if hasattr(self._predictor, "close"):
            self._predictor.close()

    def _named(self, answer: Any) -> dict[str, NDArray[Any]]:
        if isinstance(answer, Mapping):
            return {str(name): _as_array(str(name), value) for name, value in answer.items()}
        return {self.outputs[0].name: _as_array(self.outputs[0].name, answer)}


def _allowed(model: ModelFile) -> Path:
    """The real path; links that lead out of the allowed folders don't count."""
    path = model.path.resolve()
    if not any(path.is_relative_to(folder.resolve()) for folder in model.code_folders):
        folders = ", ".join(str(folder) for folder in model.code_folders) or "none"
        raise PluginError("python", f"{path} is outside the folders that this node's operator allowed ({folders})")
    return path


def _import(path: Path, module_name: str) -> ModuleType:
    """Import a file by path; modules beside it can be imported by it."""
    file = path / f"{module_name.replace('.', '/')}.py" if path.is_dir() else path
    if not file.is_file():
        raise PluginError("python", f"{file} is not a file")
    sys.path.insert(0, str(path if path.is_dir() else path.parent))
    name = module_name or f"shoal_predictor_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError("python", f"{file} can't be imported as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _find_class(module: ModuleType, class_name: str) -> Any:
    """The class by name, or the only one of this module that predicts."""
    if class_name:
        found = getattr(module, class_name, None)
        if not inspect.isclass(found) or not callable(getattr(found, PREDICT, None)):
            raise PluginError("python", f"{module.__file__} has no class {class_name!r} with `predict`")
        return found
    own = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and callable(getattr(member, PREDICT, None))
    ]
    if len(own) != 1:
        names = ", ".join(member.__name__ for member in own) or "none"
        raise PluginError("python", f"{module.__file__} has {names} with `predict`; name one in option `predictor`")
    return own[0]


def _specs(declared: Iterable[Any]) -> tuple[TensorSpec, ...]:
    try:
        return tuple(TensorSpec(str(name), str(datatype), tuple(map(int, shape))) for name, datatype, shape in declared)
    except (TypeError, ValueError):
        raise PluginError("python", f"{declared!r} is not a list of (name, datatype, shape)") from None


def _as_array(name: str, value: Any) -> NDArray[Any]:
    """What a predictor gave as an array; objects other than text have no datatype."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind == "O" and not all(isinstance(element, str | bytes) for element in array.ravel().tolist()):
        raise PluginError("python", f"output {name!r} holds Python objects; give numbers, booleans, text or bytes")
    return array
