"""The v2 codec in the worker: every datatype both ways, and a precise refusal for whatever is wrong."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shoal.agents.inference.plugins.plugin import TensorSpec
from shoal.agents.inference.worker import content, v2_request, v2_response
from shoal.agents.inference.worker.datatypes import NUMPY, SIZE, from_bytes, to_bytes
from shoal.agents.inference.worker.v2_request import Signature
from shoal.descriptions.errors import PluginError, RefusedError

FLAT = {name: TensorSpec(name, name, (-1,)) for name in NUMPY}
EVERYTHING = Signature("m", "1", tuple(FLAT.values()), tuple(FLAT.values()))
X = Signature("m", "1", (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
TEXT = Signature("m", "1", (TensorSpec("x", "BYTES", (1,)),), (TensorSpec("y", "BYTES", (1,)),))


def signature(datatype: str, shape: tuple[int, ...] = (-1,), *, is_open: bool = False) -> Signature:
    spec = (TensorSpec("x", datatype, shape),)
    return Signature("m", "1", spec, (TensorSpec("y", datatype, shape),), is_open=is_open)


def request(**changes: Any) -> bytes:
    """A good request for `X`, changed; None takes a key away."""
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]} | changes.pop("tensor", {})
    whole = {"inputs": [{key: value for key, value in tensor.items() if value is not None}]} | changes
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


def parsed(body: bytes, of: Signature = X, head_len: str | None = None) -> dict[str, NDArray[Any]]:
    return dict(v2_request.parse(head_len, body, of).batch.inputs)


numbers = [name for name in NUMPY if name != "BYTES"]
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def tensors(draw: st.DrawFn, datatypes: list[str]) -> tuple[str, NDArray[Any]]:
    """A datatype and an array of it."""
    datatype = draw(st.sampled_from(datatypes))
    if datatype == "BYTES":
        array = draw(hnp.arrays(object, shapes, elements=st.binary(max_size=12), fill=st.nothing()))
    elif datatype == "BF16":
        bits = draw(hnp.arrays(np.uint16, shapes))
        array = (bits.astype(np.uint32) << 16).view(np.float32)
    else:
        array = draw(hnp.arrays(NUMPY[datatype], shapes))
    return datatype, array


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return (
        left.shape == right.shape
        and left.dtype == right.dtype
        and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    )


@given(tensors(list(NUMPY)))
def test_binary_round_trip(drawn: tuple[str, NDArray[Any]]) -> None:
    datatype, array = drawn
    blob = bytes(to_bytes(datatype, array))
    if datatype != "BYTES":
        assert len(blob) == array.size * SIZE[datatype]
    assert same(from_bytes("x", datatype, list(array.shape), blob), array)


@given(tensors([name for name in NUMPY if name not in ("FP16", "BF16", "BYTES")]), st.booleans())
def test_json_round_trip_flat_and_nested(drawn: tuple[str, NDArray[Any]], nested: bool) -> None:
    datatype, array = drawn
    spec = signature(datatype, (-1,) * array.ndim)
    data = array.tolist() if nested else array.ravel().tolist()
    tensor = {"name": "x", "shape": list(array.shape), "datatype": datatype, "data": data}
    got = parsed(json.dumps({"inputs": [tensor]}).encode(), spec)["x"]
    assert same(got, array)
    asked = v2_request.parse(None, request(tensor=tensor), spec)
    _, body = v2_response.render(asked, {"y": got}, spec, "test")
    told = json.loads(b"".join(body))["outputs"][0]
    assert told["shape"] == list(array.shape)
    assert same(np.array(told["data"], NUMPY[datatype]).reshape(array.shape), array)


@given(st.lists(tensors(list(NUMPY)), min_size=1, max_size=4), st.data())
def test_mixed_binary_and_json_inputs(drawn: list[tuple[str, NDArray[Any]]], data: st.DataObject) -> None:
    """Blobs follow in the order of the inputs that carry a size, whatever stands between them."""
    head, blobs, specs = [], b"", []
    for index, (datatype, array) in enumerate(drawn):
        tensor: dict[str, Any] = {"name": str(index), "shape": list(array.shape), "datatype": datatype}
        specs.append(TensorSpec(str(index), datatype, (-1,) * array.ndim))
        if datatype in ("FP16", "BF16", "BYTES") or data.draw(st.booleans()):
            blob = bytes(to_bytes(datatype, array))
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs += blob
        else:
            tensor["data"] = array.tolist()
        head.append(tensor)
    text = json.dumps({"inputs": head}).encode()
    got = parsed(text + blobs, Signature("m", "1", tuple(specs), ()), str(len(text)))
    assert all(same(got[str(index)], array) for index, (_, array) in enumerate(drawn))


def test_any_bytes_are_refused_or_understood(count_case: Callable[[], None]) -> None:
    @given(st.binary(max_size=300), st.one_of(st.none(), st.integers(0, 300).map(str), st.text(max_size=4)))
    def check(body: bytes, head_len: str | None) -> None:
        count_case()
        with contextlib.suppress(RefusedError):
            assert v2_request.parse(head_len, body, EVERYTHING).batch.inputs

    check()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
near_tensor = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from([*NUMPY, "x"]) | json_values,
        "shape": st.lists(st.integers(-1, 2**65), max_size=4) | json_values,
        "datatype": st.sampled_from([*NUMPY, "FP8"]) | json_values,
        "data": json_values,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "shared_memory_region"]), json_values)
        | json_values,
    },
)
near_request = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.lists(near_tensor, max_size=3) | json_values,
        "outputs": st.lists(st.dictionaries(st.sampled_from(["name", "parameters"]), json_values), max_size=2)
        | json_values,
        "parameters": st.dictionaries(st.just("binary_data_output"), json_values) | json_values,
        "id": json_values,
    },
)


def test_almost_right_json_is_refused_or_understood(count_case: Callable[[], None]) -> None:
    @settings(max_examples=400)
    @given(near_request)
    def check(whole: Any) -> None:
        count_case()
        with contextlib.suppress(RefusedError):
            assert v2_request.parse(None, json.dumps(whole).encode(), EVERYTHING).batch.inputs

    check()


@given(hnp.arrays(np.float32, st.integers(1, 8)))
def test_bfloat16_rounds_to_nearest_even(array: NDArray[np.float32]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="comes with onnx")
    with np.errstate(all="ignore"):
        expected = array.astype(ml_dtypes.bfloat16)
    got = np.frombuffer(to_bytes("BF16", array), np.uint16)
    assert np.array_equal(got.view(ml_dtypes.bfloat16).astype(np.float32), expected.astype(np.float32), equal_nan=True)


WRONG: list[tuple[str, bytes, str]] = [
    ("not JSON", b"{", "is not a v2 infer request: Input data was truncated"),
    ("no object", b"[]", "Expected `object`, got `array`"),
    ("no inputs", b"{}", "missing required field `inputs`"),
    ("empty inputs", request(inputs=[]), "expected 1 inputs but got 0 inputs for model 'm'; missing: x"),
    ("name is a number", request(tensor={"name": 1}), r"Expected `str`, got `int` - at `\$.inputs\[0\].name`"),
    ("unknown input", request(tensor={"name": "z"}), "unexpected inference input 'z' for model 'm'; it takes x"),
    ("unknown datatype", request(tensor={"datatype": "FP8"}), "datatype 'FP8' of input 'x' is unknown"),
    ("other datatype", request(tensor={"datatype": "FP64"}), "data-type is 'FP64', but model 'm' expects 'FP32'"),
    ("other rank", request(tensor={"shape": [2]}), r"Expected \[-1, 2\], got \[2\]"),
    ("other size", request(tensor={"shape": [1, 3]}), r"Expected \[-1, 2\], got \[1, 3\]"),
    ("negative size", request(tensor={"shape": [-1, 2]}), r"Expected `int` >= 0 - at `\$.inputs\[0\].shape\[0\]`"),
    ("float size", request(tensor={"shape": [1.5, 2]}), "Expected `int`, got `float`"),
    ("wraps 2^64", request(tensor={"shape": [2**63, 2]}), "more than 2147483648 elements"),
    ("too few", request(tensor={"data": [1]}), r"has 1 elements, expected 2 for shape \[1, 2\]"),
    ("too many", request(tensor={"data": [1, 2, 3]}), "has 3 elements, expected 2"),
    ("nested otherwise", request(tensor={"data": [[1], [2]]}), r"nested as \[2, 1\], but its shape is \[1, 2\]"),
    ("ragged", request(tensor={"shape": [2, 2], "data": [[1, 2], [3]]}), "ragged"),
    ("too deep", request(tensor={"data": [[[1, 2]]]}), "Expected `float`, got `array`"),
    ("text among numbers", request(tensor={"data": [1, "2"]}), r"Expected `float`, got `str` - at `\$\[1\]`"),
    ("true among numbers", request(tensor={"data": [1, True]}), "Expected `float`, got `bool`"),
    ("null among numbers", request(tensor={"data": [1, None]}), "Expected `float`, got `null`"),
    ("over the range", request(tensor={"data": [1, 1e39]}), "out of range for FP32"),
    ("no data", request(tensor={"data": None}), "has neither `data` nor `binary_data_size`"),
    (
        "data and binary",
        request(tensor={"parameters": {"binary_data_size": 0}}),
        "has both `data` and `binary_data_size`",
    ),
    (
        "binary without header",
        request(tensor={"data": None, "parameters": {"binary_data_size": 8}}),
        "binary_data_size of input 'x' is 8, expected 0 to 0",
    ),
    (
        "size is text",
        request(tensor={"data": None, "parameters": {"binary_data_size": "8"}}),
        "is '8', expected 0 to 0",
    ),
    ("size is true", request(tensor={"data": None, "parameters": {"binary_data_size": True}}), "is True, expected"),
    ("shared memory", request(tensor={"data": None, "parameters": {"shared_memory_region": "r"}}), "shared memory"),
    ("given twice", request(inputs=[json.loads(request())["inputs"][0]] * 2), "input 'x' is given twice"),
    ("unknown output", request(outputs=[{"name": "z"}]), "unexpected inference output 'z' for model 'm'"),
    ("output twice", request(outputs=[{"name": "y"}, {"name": "y"}]), "output 'y' is asked for twice"),
    (
        "classification",
        request(outputs=[{"name": "y", "parameters": {"classification": 3}}]),
        "'classification' of output",
    ),
    (
        "flag is a number",
        request(outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
        "'binary_data' of output 'y' is 1, expected true or false",
    ),
    ("flag is text", request(parameters={"binary_data_output": "yes"}), "'binary_data_output' of the request is 'yes'"),
    ("id is a number", request(id=5), "Expected `str`, got `int`"),
    ("deep", b'{"inputs":' + b"[" * 100_000, "is not a v2 infer request"),
    ("NaN outside numbers", b'{"inputs": NaN}', "Expected `array`, got `float`"),
    ("NaN and damaged", b'{"inputs": [NaN', "is not valid JSON"),
]


@pytest.mark.parametrize(("body", "says"), [pytest.param(body, says, id=name) for name, body, says in WRONG])
def test_wrong_requests_are_refused_precisely(body: bytes, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        v2_request.parse(None, body, X)


@pytest.mark.parametrize(
    ("datatype", "data", "says"),
    [
        ("INT8", [128], "out of range for INT8"),
        ("INT32", [1.5], "Expected `int`, got `float`"),
        ("INT32", [1.0], "Expected `int`, got `float`"),
        ("UINT8", [-1], "out of range for UINT8"),
        ("UINT64", [2**64], "out of range for UINT64"),
        ("BOOL", [1], "Expected `bool`, got `int`"),
        ("BYTES", [1], "Expected `str`, got `int`"),
        ("FP16", [1.0], "FP16, which has no JSON form"),
        ("BF16", [1.0], "BF16, which has no JSON form"),
    ],
)
def test_wrong_elements_are_refused_precisely(datatype: str, data: list[Any], says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        parsed(request(tensor={"datatype": datatype, "shape": [len(data)], "data": data}), signature(datatype))


@pytest.mark.parametrize(
    ("datatype", "shape", "blob", "says"),
    [
        ("FP32", [2], b"1234567", "7 bytes of binary data, expected 8 for FP32"),
        ("BOOL", [2], b"\0\2", "BOOL bytes other than 0 and 1"),
        ("BYTES", [1], b"\0\0", "too few for 1 BYTES elements"),
        ("BYTES", [1], b"\5\0\0\0abc", "element 0 of 'x' has 5 bytes, 3 are left"),
        ("BYTES", [1], b"\1\0\0\0abc", "2 bytes after its 1 elements"),
        ("BYTES", [2], b"\4\0\0\0abcd\0", "ends inside the length of element 1"),
    ],
)
def test_wrong_blobs_are_refused_precisely(datatype: str, shape: list[int], blob: bytes, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        from_bytes("x", datatype, shape, blob)


@pytest.mark.parametrize("head_len", ["-1", "x", "1e1", "99999", "٣"])
def test_wrong_header_length_is_refused(head_len: str) -> None:
    with pytest.raises(RefusedError, match="Inference-Header-Content-Length is"):
        v2_request.parse(head_len, request(), X)


def test_binary_data_that_belongs_to_nobody_is_refused() -> None:
    with pytest.raises(RefusedError, match="3 bytes of binary data belong to no input"):
        v2_request.parse(str(len(request())), request() + b"abc", X)


def test_nan_and_infinity_are_read_and_written_as_words() -> None:
    body = b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[NaN,Infinity,-Infinity,1]}]}'
    asked = v2_request.parse(None, body, X)
    array = asked.batch.inputs["x"]
    assert np.isnan(array[0, 0])
    assert array.ravel()[1:].tolist() == [math.inf, -math.inf, 1]
    _, parts = v2_response.render(asked, {"y": array}, X, "test")
    assert b'"data":[NaN,Infinity,-Infinity,1.0]' in b"".join(parts)


def test_output_choice_follows_the_extension() -> None:
    two = Signature("m", "1", X.inputs, (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("z", "INT8", (-1,))))
    body = request(
        parameters={"binary_data_output": True},
        outputs=[{"name": "z", "parameters": {"binary_data": False}}, {"name": "y"}],
    )
    asked = v2_request.parse(None, body, two)
    assert asked.batch.outputs == ("z", "y")
    outputs = {"y": np.array([[1, 2]], "<f4"), "z": np.array([3], "<i1"), "extra": np.zeros(1)}
    fields, parts = v2_response.render(asked, outputs, two, "test")
    whole = b"".join(parts)
    size = int(fields["inference-header-content-length"])
    assert fields["content-type"] == "application/octet-stream"
    assert json.loads(whole[:size])["outputs"] == [
        {"name": "z", "datatype": "INT8", "shape": [1], "data": [3]},
        {"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
    ]
    assert whole[size:] == np.array([1, 2], "<f4").tobytes()


def test_text_goes_both_ways() -> None:
    asked = v2_request.parse(None, request(tensor={"datatype": "BYTES", "shape": [1], "data": ["grün"]}), TEXT)
    assert asked.batch.inputs["x"].tolist() == ["grün".encode()]
    _, parts = v2_response.render(asked, {"y": np.array(["grün"], object)}, TEXT, "test")
    assert json.loads(b"".join(parts))["outputs"][0]["data"] == ["grün"]
    with pytest.raises(RefusedError, match="not UTF-8"):
        v2_response.render(asked, {"y": np.array([b"\xff"], object)}, TEXT, "test")


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        pytest.param({}, "NoneType for output 'y'", id="missing"),
        pytest.param({"y": [1.0]}, "list for output 'y'", id="no array"),
        pytest.param({"y": np.zeros(2, complex)}, "complex128, which has no v2 datatype", id="complex"),
        pytest.param({"y": np.zeros(2, np.float64)}, "as FP64, its metadata say FP32", id="other type"),
    ],
)
def test_nonsense_of_a_model_is_its_own_fault(outputs: dict[str, Any], says: str) -> None:
    with pytest.raises(PluginError, match=says):
        v2_response.render(v2_request.parse(None, request(), X), outputs, X, "test")


def test_half_floats_are_answered_in_binary_only() -> None:
    spec = signature("FP16")
    blob = np.array([1, 2], "<f2").tobytes()
    tensor = {"name": "x", "shape": [2], "datatype": "FP16", "parameters": {"binary_data_size": 4}}
    text = json.dumps({"inputs": [tensor]}).encode()
    asked = v2_request.parse(str(len(text)), text + blob, spec)
    with pytest.raises(RefusedError, match="FP16, which has no JSON form; ask for it as binary"):
        v2_response.render(asked, {"y": asked.batch.inputs["x"]}, spec, "test")


def test_big_endian_and_strided_outputs_are_sent_in_order() -> None:
    outputs = {"y": np.arange(4, dtype=">f4").reshape(2, 2).T}
    text = request(parameters={"binary_data_output": True})
    _, (_, blob) = v2_response.render(v2_request.parse(None, text, X), outputs, X, "test")
    assert np.frombuffer(blob, "<f4").tolist() == [0, 2, 1, 3]


class TestRaw:
    """Header length 0: the body is the one input."""

    def test_variable_size_follows_from_the_body(self) -> None:
        asked = v2_request.parse("0", np.arange(6, dtype="<f4").tobytes(), signature("FP32", (-1, -1, 2)))
        assert asked.batch.inputs["x"].shape == (1, 3, 2)
        assert all(output.is_binary for output in asked.wanted)

    def test_bytes_come_without_their_length(self) -> None:
        asked = v2_request.parse("0", b"any bytes", TEXT)
        assert asked.batch.inputs["x"].tolist() == [b"any bytes"]

    @pytest.mark.parametrize(
        ("of", "says"),
        [
            (EVERYTHING, r"Raw request must only have 1 input \(found 1\) to be deduced but got 14 inputs in"),
            (signature("BYTES", (1, 1)), "For BYTE datatype raw input 'x', the model must have input shape"),
            (signature("FP32", (2, -1, -1)), "can not be deduced because there are more than one variable-sized"),
            (signature("FP32", (2,)), "4 bytes of binary data, expected 8"),
        ],
    )
    def test_what_can_not_be_deduced_is_refused(self, of: Signature, says: str) -> None:
        with pytest.raises(RefusedError, match=says):
            v2_request.parse("0", bytes(4), of)


class TestContent:
    """Content-Encoding of requests."""

    @given(st.binary(max_size=500), st.sampled_from(["gzip", "deflate", "x-gzip", " GZIP "]))
    def test_round_trip(self, data: bytes, encoding: str) -> None:
        import gzip
        import zlib

        packed = zlib.compress(data) if encoding == "deflate" else gzip.compress(data)
        assert content.decode(encoding, packed, 1000) == data

    @given(st.binary(max_size=200))
    def test_nonsense_is_refused(self, data: bytes) -> None:
        with pytest.raises(RefusedError):
            content.decode("gzip", data, 1000)

    def test_bombs_and_unknown_encodings_are_refused(self) -> None:
        import zlib

        with pytest.raises(RefusedError, match="larger than 1000 bytes"):
            content.decode("deflate", zlib.compress(bytes(10**6)), 1000)
        with pytest.raises(RefusedError, match="'br' is not supported"):
            content.decode("br", b"", 1000)
        with pytest.raises(RefusedError, match="cut short"):
            content.decode("deflate", zlib.compress(b"hello")[:-3], 1000)
        assert content.decode(None, b"as it is", 1) == b"as it is"


@pytest.mark.parametrize(
    ("shape", "data", "expected"),
    [
        ([2, 2], b"[[1,2],\n [3,4]]", [[1, 2], [3, 4]]),
        ([2, 2], b" [ [1 , 2] , [3, 4] ] ", [[1, 2], [3, 4]]),
        ([0, 2], b"[]", []),
        ([1, 2], b"[[1, 2]]", [[1, 2]]),
    ],
)
def test_lists_with_white_space(shape: list[int], data: bytes, expected: list[Any]) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":%b,"data":%b}]}' % (json.dumps(shape).encode(), data)
    assert parsed(body)["x"].tolist() == expected


def test_open_models_take_any_tensor() -> None:
    body = request(tensor={"name": "whatever", "datatype": "INT16", "shape": [2], "data": [1, 2]})
    assert parsed(body, signature("FP64", is_open=True))["whatever"].dtype == np.int16
    with pytest.raises(RefusedError, match="missing: at least one input"):
        parsed(request(inputs=[]), signature("FP64", is_open=True))
