"""The three runtimes, in process and behind a gateway, with models made on the spot."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as tflite

from shoal.agents.inference import plugins
from shoal.agents.inference.plugins import build_plugin, class_paths, plugin_class
from shoal.agents.inference.plugins.litert import LiteRt
from shoal.agents.inference.plugins.onnx import Onnx
from shoal.agents.inference.plugins.plugin import Batch, LoadedModel, ModelFile, TensorSpec
from shoal.agents.inference.plugins.python import PythonPredictor
from shoal.descriptions.errors import DescriptionError, PluginError, RefusedError
from shoal.descriptions.messages.gateway import ServingSpec

from .harness import GatewayProcess, onnx_bytes

pytestmark = pytest.mark.timeout(300)
Ask = Callable[..., bytes]


def model_file(path: Path, *folders: Path) -> ModelFile:
    return ModelFile("m", "1", path, folders)


def predict(model: LoadedModel, **inputs: Any) -> dict[str, Any]:
    return dict(model.predict(Batch(inputs, tuple(spec.name for spec in model.outputs))))


def adding_model(signature: str = "") -> bytes:
    """A .tflite file: y = x + 1, FP32 [-1, 4]; the tensors are named otherwise in the signature, if there is one."""
    model, graph = tflite.ModelT(), tflite.SubGraphT()
    one: Any = tflite.BufferT()
    one.data = np.frombuffer(np.ones(4, np.float32).tobytes(), np.uint8)
    code, add = tflite.OperatorCodeT(), tflite.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = tflite.BuiltinOperator.ADD
    code.version = 1
    add.inputs, add.outputs = [0, 1], [2]
    add.builtinOptionsType, add.builtinOptions = tflite.BuiltinOptions.AddOptions, tflite.AddOptionsT()
    graph.tensors = [_tensor("x", [1, 4], [-1, 4]), _tensor("one", [4], None, buffer=1), _tensor("y", [1, 4], [-1, 4])]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [add]
    model.version, model.buffers = 3, [tflite.BufferT(), one]
    model.operatorCodes, model.subgraphs = [code], [graph]
    if signature:
        model.signatureDefs = [_signature(signature)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, shape: list[int], signature: list[int] | None, buffer: int = 0) -> Any:
    tensor = tflite.TensorT()
    tensor.name, tensor.shape, tensor.shapeSignature, tensor.buffer = name, shape, signature, buffer
    tensor.type = tflite.TensorType.FLOAT32
    return tensor


def _signature(key: str) -> Any:
    definition = tflite.SignatureDefT()
    definition.signatureKey = key
    definition.subgraphIndex = 0
    for names, name, index in (("inputs", "image", 0), ("outputs", "scores", 2)):
        mapping = tflite.TensorMapT()
        mapping.name, mapping.tensorIndex = name, index
        setattr(definition, names, [mapping])
    return definition


@pytest.fixture
def adding(tmp_path: Path) -> Path:
    path = tmp_path / "add.tflite"
    path.write_bytes(adding_model())
    return path


class TestOnnx:
    def test_metadata_and_answers(self, models: Path) -> None:
        model = Onnx().load(model_file(models / "mixed.onnx"), "cpu")
        assert model.inputs == (
            TensorSpec("a", "INT64", (-1,)),
            TensorSpec("b", "UINT8", (-1,)),
            TensorSpec("text", "BYTES", (-1,)),
        )
        assert model.outputs == (TensorSpec("total", "INT64", (-1,)), TensorSpec("same", "BYTES", (-1,)))
        a, b = np.array([1, 2], np.int64), np.array([3, 4], np.uint8)
        answer = predict(model, a=a, b=b, text=np.array([b"so", b"on"], object))
        assert answer["total"].tolist() == [4, 6]
        assert answer["same"].tolist() == ["so", "on"]
        with pytest.raises(RefusedError, match="input 'text' holds bytes that are not UTF-8"):
            predict(model, a=a, b=b, text=np.array([b"\xff"], object))

    def test_only_wanted_outputs_are_computed(self, models: Path) -> None:
        model = Onnx().load(model_file(models / "mixed.onnx"), "cpu")
        inputs: dict[str, Any] = {
            "a": np.ones(1, np.int64),
            "b": np.ones(1, np.uint8),
            "text": np.array([b"x"], object),
        }
        assert set(model.predict(Batch(inputs, ("same",)))) == {"same"}

    def test_shapes_that_disagree_are_the_clients_fault(self, models: Path) -> None:
        model = Onnx().load(model_file(models / "mixed.onnx"), "cpu")
        with pytest.raises(RefusedError, match="dimension 'n' has different sizes: 2 in 'a', 3 in 'b'"):
            predict(model, a=np.ones(2, np.int64), b=np.ones(3, np.uint8), text=np.array([b"x"], object))

    def test_a_device_that_is_not_there_is_told(self, models: Path) -> None:
        model = Onnx().load(model_file(models / "double.onnx"), "cuda:0")
        assert model.device == "cpu"
        assert model.reason == "CUDAExecutionProvider not available here; running on CPUExecutionProvider"
        model = Onnx(execution_providers=("XnnpackExecutionProvider",)).load(model_file(models / "double.onnx"), "cpu")
        assert model.reason.startswith("XnnpackExecutionProvider not available")

    def test_every_option_is_taken(self, models: Path) -> None:
        plugin = Onnx(
            2, ("CPUExecutionProvider",), "disabled", allow_spinning=True, memory_arena=True, prepacking=False
        )
        model = plugin.load(model_file(models / "double.onnx"), "cpu")
        assert (model.device, model.reason) == ("cpu", "")
        assert predict(model, x=np.ones((1, 4), np.float32))["y"].tolist() == [[2, 2, 2, 2]]

    def test_a_classifier_with_maps_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        from skl2onnx import to_onnx
        from sklearn.linear_model import LogisticRegression

        x = np.array([[0.0], [1.0]], np.float32)
        classifier = LogisticRegression().fit(x, [0, 1])
        path = tmp_path / "zipmap.onnx"
        zipmap: Any = to_onnx(classifier, x)
        path.write_bytes(zipmap.SerializeToString())
        model = Onnx().load(model_file(path), "cpu")
        assert [spec.name for spec in model.outputs] == ["output_label"], "the map of probabilities is no tensor"
        plain: Any = to_onnx(classifier, x, options={"zipmap": False})
        path.write_bytes(plain.SerializeToString())
        assert len(Onnx().load(model_file(path), "cpu").outputs) == 2

    def test_types_without_an_array_are_refused(self, tmp_path: Path) -> None:
        from onnx import TensorProto, helper

        x = helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ["n"])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
        node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
        (tmp_path / "bf16.onnx").write_bytes(onnx_bytes(helper.make_graph([node], "cast", [x], [y])))
        with pytest.raises(PluginError, match=r"input 'x' of m is tensor\(bfloat16\), not supported"):
            Onnx().load(model_file(tmp_path / "bf16.onnx"), "cpu")

    def test_the_vendors_uploader_is_off(self, models: Path) -> None:
        import os

        Onnx().load(model_file(models / "double.onnx"), "cpu")
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


class TestLiteRt:
    def test_metadata_answers_and_resizing(self, adding: Path) -> None:
        model = LiteRt().load(model_file(adding), "cpu")
        assert model.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
        assert model.outputs == (TensorSpec("y", "FP32", (-1, 4)),)
        for rows in (1, 3, 1, 7):
            x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
            assert np.array_equal(predict(model, x=x)["y"], x + 1)

    def test_answers_stay_when_the_next_one_is_computed(self, adding: Path) -> None:
        model = LiteRt().load(model_file(adding), "cpu")
        first = predict(model, x=np.zeros((1, 4), np.float32))["y"]
        predict(model, x=np.ones((1, 4), np.float32))
        assert first.tolist() == [[1, 1, 1, 1]]

    def test_names_of_the_signature(self, tmp_path: Path) -> None:
        path = tmp_path / "signed.tflite"
        path.write_bytes(adding_model("serving_default"))
        model = LiteRt(threads=2).load(model_file(path), "cpu")
        assert [spec.name for spec in (*model.inputs, *model.outputs)] == ["image", "scores"]
        for rows in (2, 5):
            assert np.array_equal(predict(model, image=np.ones((rows, 4), np.float32))["scores"], np.full((rows, 4), 2))

    def test_a_shape_it_can_not_have_leaves_it_working(self, adding: Path) -> None:
        model = LiteRt().load(model_file(adding), "cpu")
        with pytest.raises(RefusedError, match="can't take inputs of these shapes"):
            predict(model, x=np.ones((1, 5), np.float32))
        assert predict(model, x=np.zeros((2, 4), np.float32))["y"].tolist() == [[1] * 4] * 2

    def test_another_device_is_told(self, adding: Path) -> None:
        model = LiteRt().load(model_file(adding), "cuda:0")
        assert (model.device, model.reason) == ("cpu", "no delegate for 'cuda:0' here; running on the CPU")


class TestPython:
    @pytest.fixture
    def load(self, tmp_path: Path) -> Callable[..., LoadedModel]:
        """Load source text as a predictor."""

        def load(source: str, name: str = "predictor.py", **options: Any) -> LoadedModel:
            (tmp_path / name).write_text(source)
            path = tmp_path / name if ":" not in options.get("predictor", "") else tmp_path
            return PythonPredictor(**options).load(model_file(path, tmp_path), "cpu")

        return load

    @pytest.fixture(autouse=True)
    def forget_modules(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Predictors change these for the life of their process."""
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def test_the_smallest_predictor(self, load: Callable[..., LoadedModel]) -> None:
        model = load("class Double:\n    def predict(self, x):\n        return x * 2\n")
        assert model.is_open
        assert model.inputs == (TensorSpec("input", "FP64", (-1, -1)),)
        assert predict(model, anything=np.array([1, 2]))["predict"].tolist() == [2, 4]

    def test_all_that_a_predictor_may_have(self, load: Callable[..., LoadedModel]) -> None:
        model = load(
            "import numpy as np\n"
            "class Full:\n"
            "    inputs = [('a', 'FP32', [-1]), ('b', 'FP32', (-1,))]\n"
            "    outputs = [('sum', 'FP32', [-1]), ('text', 'BYTES', [-1])]\n"
            "    def __init__(self, offset): self.offset = offset; self.is_closed = False\n"
            "    def load(self): self.offset += 1\n"
            "    def close(self): self.is_closed = True\n"
            "    def predict(self, inputs):\n"
            "        return {'sum': inputs['a'] + inputs['b'] + np.float32(self.offset), 'text': ['a', 'b']}\n",
            init_arguments={"offset": 10},
        )
        assert not model.is_open
        answer = predict(model, a=np.ones(1, np.float32), b=np.ones(1, np.float32))
        assert answer["sum"].tolist() == [13]
        assert answer["text"].tolist() == ["a", "b"]
        model.unload()
        assert vars(model)["_predictor"].is_closed

    def test_probabilities_are_given_when_asked_for(self, load: Callable[..., LoadedModel]) -> None:
        model = load(
            "class Both:\n    def predict(self, x): return [1]\n    def predict_proba(self, x): return [[0.25, 0.75]]\n"
        )
        assert model.optional_outputs == {"predict_proba"}
        inputs = {"x": np.ones(1)}
        assert set(model.predict(Batch(inputs, ("predict",)))) == {"predict"}
        assert set(model.predict(Batch(inputs, ("predict_proba",)))) == {"predict_proba"}

    def test_a_module_of_a_folder_with_its_neighbours(self, load: Callable[..., LoadedModel], tmp_path: Path) -> None:
        (tmp_path / "factors.py").write_text("TWO = 2\n")
        model = load(
            "from factors import TWO\nclass A:\n    def predict(self, x): return x * TWO\nclass B(A): pass\n",
            name="shop.py",
            predictor="shop:B",
        )
        assert predict(model, x=np.array([4]))["predict"].tolist() == [8]

    @pytest.mark.parametrize(
        ("source", "options", "says"),
        [
            ("x = 1\n", {}, "has none with `predict`; name one in option `predictor`"),
            ("class A:\n    def predict(self, x): ...\nclass B(A): ...\n", {}, "has A, B with `predict`"),
            ("class A: ...\n", {"predictor": "A"}, "has no class 'A' with `predict`"),
            (
                "class A:\n    inputs = ['x']\n    def predict(self, x): ...\n",
                {},
                "is not a list of (name, datatype, shape)",
            ),
        ],
    )
    def test_wrong_predictors_are_named(
        self, load: Callable[..., LoadedModel], source: str, options: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(PluginError) as error:
            load(source, **options)
        assert says in str(error.value)

    def test_code_from_elsewhere_is_refused(self, tmp_path: Path) -> None:
        allowed, other = tmp_path / "allowed", tmp_path / "other"
        for folder in (allowed, other):
            folder.mkdir()
        (other / "evil.py").write_text("raise SystemExit('was run')\n")
        (allowed / "link.py").symlink_to(other / "evil.py")
        for path in (other / "evil.py", allowed / ".." / "other" / "evil.py", allowed / "link.py"):
            with pytest.raises(PluginError, match="is outside the folders that this node's operator allowed"):
                PythonPredictor().load(model_file(path, allowed), "cpu")
        with pytest.raises(PluginError, match="is not a file"):
            PythonPredictor().load(model_file(allowed / "none.py", allowed), "cpu")

    def test_objects_are_no_answer(self, load: Callable[..., LoadedModel]) -> None:
        model = load("class Odd:\n    def predict(self, x): return [object()]\n")
        with pytest.raises(PluginError, match="output 'predict' holds Python objects"):
            predict(model, x=np.ones(1))


class TestRegistry:
    def test_options_are_checked_by_name_and_type(self) -> None:
        paths = class_paths(["onnx"])
        assert build_plugin("onnx", {"intraOpThreads": 2}, paths) == Onnx(intra_op_threads=2)
        with pytest.raises(DescriptionError, match="did you mean 'intraOpThreads'"):
            build_plugin("onnx", {"intraOpThread": 2}, paths)

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(PluginError, match="no inference plugin has this name; installed are litert, onnx, python"):
            class_paths(["tensorrt"])

    def test_a_class_that_is_no_plugin_is_refused(self) -> None:
        with pytest.raises(PluginError, match="not a subclass of InferencePlugin"):
            plugin_class("pathlib:Path")

    def test_an_installed_plugin_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from importlib.metadata import EntryPoint

        point = EntryPoint("other", f"{Onnx.__module__}:Onnx", plugins.ENTRY_POINT_GROUP)
        monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "shoal.inference" else [])
        assert plugin_class(class_paths(["other"])["other"]) is Onnx


def test_the_plugin_of_the_page_works_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs" / "inference.md"
    source = page.read_text().split("```python\n")[1].split("```")[0]
    module = types.ModuleType("plugin_of_the_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(source, vars(module))
    plugin = build_plugin("constant", {"value": 2.5}, {"constant": "plugin_of_the_page:Constant"})
    assert predict(plugin.load(model_file(Path("any")), "cpu"), x=np.ones(3, np.float32))["y"].tolist() == [2.5]


@pytest.mark.system
def test_all_runtimes_behind_one_gateway(
    shared: GatewayProcess, double: ServingSpec, moody: ServingSpec, adding: Path, ask: Ask
) -> None:
    for name, spec in (
        ("onnx", double),
        ("litert", ServingSpec(model="add", path=str(adding), plugin="litert", options={"threads": 1})),  # type: ignore[dict-item]
        ("python", moody),
    ):
        report = shared.serve(name, spec)
        assert (report.plugin, report.device, report.reason) == (name, "cpu", "")
    assert set(shared.health().zygotes) == {"onnx", "litert", "python"}
    answers = [
        shared.infer("scale", ask([1, 2, 3, 4], shape=[1, 4])),
        shared.infer("add", ask([1, 2, 3, 4], shape=[1, 4])),
        shared.infer("moody", ask([20, 21], datatype="FP64")),
    ]
    assert [answer.json["outputs"][0]["data"] for answer in answers] == [[2, 4, 6, 8], [2, 3, 4, 5], [40, 42]]
    metadata = shared.request("GET", "/v2/models/add").json
    assert metadata == {
        "name": "add",
        "versions": ["1"],
        "platform": "litert_tflite",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    }
