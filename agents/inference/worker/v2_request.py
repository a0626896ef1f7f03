"""A v2 infer request to a batch: `parse` checks everything that can be checked before the model runs.

Reads JSON, and JSON followed by binary tensors (Triton's binary tensor data extension), and the raw form in which the
body is the only input. What is wrong ends as `RefusedError` (status 400) that names the input and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import msgspec
from numpy.typing import NDArray

from ....descriptions.errors import RefusedError
from ..frames import Buffer
from ..plugins.plugin import Batch, TensorSpec
from .datatypes import NUMPY, SIZE, element_count, from_bytes
from .json_data import from_json, has_non_finite_words, loads_with_non_finite

TENSORS_MAX = 1024

_Size = Annotated[int, msgspec.Meta(ge=0)]
_Parameters = dict[str, Any]


class _Input(msgspec.Struct):
    name: str
    shape: list[_Size]
    datatype: str
    parameters: _Parameters = {}
    data: Any = msgspec.UNSET


class _RawInput(_Input):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: _Parameters = {}


class _Head(msgspec.Struct):
    inputs: Annotated[list[_Input], msgspec.Meta(max_length=TENSORS_MAX)]
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=TENSORS_MAX)] = []
    id: str = ""
    parameters: _Parameters = {}


class _RawHead(_Head):
    inputs: Annotated[list[_RawInput], msgspec.Meta(max_length=TENSORS_MAX)]  # type: ignore[assignment]


_decoder = msgspec.json.Decoder(_RawHead)


@dataclass(frozen=True)
class Signature:
    """What the model takes and gives."""

    model: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    optional_outputs: frozenset[str] = frozenset()
    is_open: bool = False

    @cached_property
    def input_by_name(self) -> dict[str, TensorSpec]:
        """`inputs`, to look one up."""
        return {spec.name: spec for spec in self.inputs}

    @cached_property
    def output_by_name(self) -> dict[str, TensorSpec]:
        """`outputs`, to look one up."""
        return {spec.name: spec for spec in self.outputs}

    @cached_property
    def default_outputs(self) -> tuple[str, ...]:
        """What a request gets that names none."""
        return tuple(spec.name for spec in self.outputs if spec.name not in self.optional_outputs)


@dataclass(frozen=True)
class WantedOutput:
    """An output to answer with."""

    name: str
    is_binary: bool


@dataclass(frozen=True)
class InferRequest:
    """A checked request."""

    id: str
    batch: Batch
    wanted: tuple[WantedOutput, ...]


def parse(head_len: str | None, body: Buffer, signature: Signature) -> InferRequest:
    """Check a request; `head_len` is the header `Inference-Header-Content-Length`, None when it wasn't sent."""
    if head_len is None:
        return _parse_json(body, memoryview(b""), signature)
    if not head_len.isascii() or not head_len.isdigit() or int(head_len) > len(body):
        raise RefusedError(f"Inference-Header-Content-Length is {head_len!r}, expected 0 to {len(body)}")
    view = memoryview(body)
    size = int(head_len)
    return _parse_json(view[:size], view[size:], signature) if size else _parse_raw(view, signature)


def _parse_json(text: Buffer, blobs: memoryview, signature: Signature) -> InferRequest:
    head = _decode_head(text)
    inputs: dict[str, NDArray[Any]] = {}
    for item in head.inputs:
        if item.name in inputs:
            raise RefusedError(f"input {item.name!r} is given twice")
        inputs[item.name], blobs = _read_input(item, blobs, signature)
    if len(blobs):
        raise RefusedError(f"{len(blobs)} bytes of binary data belong to no input")
    _check_all_given(inputs, signature)
    wanted = _wanted_outputs(head, signature)
    return InferRequest(head.id, Batch(inputs, tuple(output.name for output in wanted)), wanted)


def _decode_head(text: Buffer) -> _Head:
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) or not has_non_finite_words(text):
            raise RefusedError(f"the request is not a v2 infer request: {error}") from None
    try:
        return msgspec.convert(loads_with_non_finite(text), _Head)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RefusedError(f"the request is not a v2 infer request: {error}") from None


def _read_input(item: _Input, blobs: memoryview, signature: Signature) -> tuple[NDArray[Any], memoryview]:
    """The tensor, and the binary data that is left for the inputs after it."""
    _check_input(item, signature)
    element_count(item.name, item.shape)
    if "shared_memory_region" in item.parameters:
        raise RefusedError(f"input {item.name!r} is in shared memory, which is not enabled here")
    has_data = item.data is not msgspec.UNSET
    size = item.parameters.get("binary_data_size")
    if size is None:
        if not has_data:
            raise RefusedError(f"input {item.name!r} has neither `data` nor `binary_data_size`")
        return from_json(item.name, item.datatype, item.shape, item.data), blobs
    if has_data:
        raise RefusedError(f"input {item.name!r} has both `data` and `binary_data_size`")
    if type(size) is not int or not 0 <= size <= len(blobs):
        raise RefusedError(f"binary_data_size of input {item.name!r} is {size!r}, expected 0 to {len(blobs)}")
    return from_bytes(item.name, item.datatype, item.shape, blobs[:size]), blobs[size:]


def _check_input(item: _Input, signature: Signature) -> None:
    if item.datatype not in NUMPY:
        raise RefusedError(
            f"datatype {item.datatype!r} of input {item.name!r} is unknown; known are {', '.join(NUMPY)}"
        )
    if signature.is_open:
        return
    spec = signature.input_by_name.get(item.name)
    if spec is None:
        names = ", ".join(signature.input_by_name)
        raise RefusedError(f"unexpected inference input {item.name!r} for model {signature.model!r}; it takes {names}")
    if item.datatype != spec.datatype:
        raise RefusedError(
            f"inference input {item.name!r} data-type is {item.datatype!r}, "
            f"but model {signature.model!r} expects {spec.datatype!r}"
        )
    if not _fits(item.shape, spec.shape):
        raise RefusedError(
            f"unexpected shape for input {item.name!r} for model {signature.model!r}. "
            f"Expected {list(spec.shape)}, got {item.shape}"
        )


def _fits(shape: list[int], wanted: tuple[int, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    for have, want in zip(shape, wanted, strict=True):  # a generator would cost more than the work  # noqa: SIM110
        if want not in (-1, have):
            return False
    return True


def _check_all_given(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> None:
    if inputs and (signature.is_open or len(inputs) == len(signature.inputs)):
        return  # each was looked up, so none is missing
    missing = [name for name in signature.input_by_name if name not in inputs and not signature.is_open]
    if missing or not inputs:
        raise RefusedError(
            f"expected {max(len(signature.inputs), 1)} inputs but got {len(inputs)} inputs for model "
            f"{signature.model!r}; missing: {', '.join(missing) or 'at least one input'}"
        )


def _wanted_outputs(head: _Head, signature: Signature) -> tuple[WantedOutput, ...]:
    all_binary = _flag(head.parameters, "binary_data_output", default=False, of="the request")
    if not head.outputs:
        return _all_outputs(signature, is_binary=all_binary)
    wanted: dict[str, WantedOutput] = {}
    for output in head.outputs:
        if output.name not in signature.output_by_name:
            raise RefusedError(f"unexpected inference output {output.name!r} for model {signature.model!r}")
        if output.name in wanted:
            raise RefusedError(f"output {output.name!r} is asked for twice")
        for key in ("classification", "shared_memory_region"):
            if key in output.parameters:
                raise RefusedError(f"parameter {key!r} of output {output.name!r} is not supported here")
        is_binary = _flag(output.parameters, "binary_data", default=all_binary, of=f"output {output.name!r}")
        wanted[output.name] = WantedOutput(output.name, is_binary)
    return tuple(wanted.values())


def _all_outputs(signature: Signature, *, is_binary: bool) -> tuple[WantedOutput, ...]:
    return tuple([WantedOutput(name, is_binary) for name in signature.default_outputs])


def _flag(parameters: _Parameters, name: str, *, default: bool, of: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RefusedError(f"parameter {name!r} of {of} is {value!r}, expected true or false")
    return value


def _parse_raw(body: memoryview, signature: Signature) -> InferRequest:
    """Triton's raw binary request: the body is the one input, its shape follows from its size."""
    if len(signature.inputs) != 1:
        raise RefusedError(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(signature.inputs)} inputs in "
            f"{signature.model!r} model configuration"
        )
    spec = signature.inputs[0]
    shape = _deduced_shape(spec, len(body))
    if spec.datatype == "BYTES":
        body = memoryview(len(body).to_bytes(4, "little") + body)
    batch = Batch({spec.name: from_bytes(spec.name, spec.datatype, shape, body)}, ())
    wanted = _all_outputs(signature, is_binary=True)
    return InferRequest("", Batch(batch.inputs, tuple(output.name for output in wanted)), wanted)


def _deduced_shape(spec: TensorSpec, size: int) -> list[int]:
    if spec.datatype == "BYTES":
        if len(spec.shape) != 1:
            raise RefusedError(f"For BYTE datatype raw input {spec.name!r}, the model must have input shape [1]")
        return [1]
    variable = [index for index, dimension in enumerate(spec.shape) if dimension == -1]
    if variable and spec.shape[0] == -1 and len(variable) > 1:
        variable = variable[1:]  # the first is the batch, which a raw request fixes at 1
    if len(variable) > 1:
        raise RefusedError(
            f"The shape of the raw input {spec.name!r} can not be deduced because there are more than one "
            "variable-sized dimension"
        )
    shape = [1 if dimension == -1 else dimension for dimension in spec.shape]
    if variable:
        fixed = element_count(spec.name, shape) * SIZE[spec.datatype]
        shape[variable[0]] = size // fixed if fixed else 0
    return shape
