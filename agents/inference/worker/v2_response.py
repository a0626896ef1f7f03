"""A model's outputs to a v2 answer: JSON, or JSON followed by binary tensors.

The worker calls it with what the plugin gave. Outputs that break the contract end as `PluginError` (500); outputs that
have no form the client asked for (FP16 as JSON, bytes that are no text) as `RefusedError` (400).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ....descriptions.errors import PluginError
from ..frames import Buffer
from .datatypes import datatype_of, to_bytes
from .json_data import to_json
from .v2_request import InferRequest, Signature, WantedOutput

if TYPE_CHECKING:
    from ..plugins.plugin import Tensors

_text = msgspec.json.encode


def render(
    request: InferRequest, outputs: Tensors, signature: Signature, plugin: str
) -> tuple[dict[str, str], list[Buffer]]:
    """Header fields and body parts of the answer."""
    head = [b'{"model_name":', _text(signature.model), b',"model_version":', _text(signature.version)]
    if request.id:
        head += [b',"id":', _text(request.id)]
    blobs: list[Buffer] = []
    separator = b',"outputs":['
    for wanted in request.wanted:
        head += [separator, *_render_output(wanted, outputs, signature, plugin, blobs)]
        separator = b","
    head.append(b"]}" if request.wanted else b',"outputs":[]}')
    text = b"".join(head)
    if not blobs:
        return {":status": "200", "content-type": "application/json"}, [text]
    fields = {
        ":status": "200",
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(text)),
    }
    return fields, [text, *blobs]


def _render_output(
    wanted: WantedOutput, outputs: Tensors, signature: Signature, plugin: str, blobs: list[Buffer]
) -> list[bytes]:
    array, datatype = _checked(wanted.name, outputs, signature, plugin)
    head = [
        b'{"name":',
        _text(wanted.name),
        b',"datatype":"',
        datatype.encode(),
        b'","shape":',
        _text(list(array.shape)),
    ]
    if not wanted.is_binary:
        return [*head, b',"data":', to_json(wanted.name, datatype, array), b"}"]
    blob = to_bytes(datatype, array)
    blobs.append(blob)
    return [*head, b',"parameters":{"binary_data_size":%d}}' % len(blob)]


def _checked(name: str, outputs: Tensors, signature: Signature, plugin: str) -> tuple[NDArray[Any], str]:
    """The output as an array in little-endian order, and its datatype."""
    array = outputs.get(name)
    if not isinstance(array, np.ndarray):
        raise PluginError(plugin, f"predict gave {type(array).__name__} for output {name!r}, expected an array")
    spec = signature.output_by_name.get(name)
    if spec is not None and spec.datatype == "BF16" and array.dtype.kind == "f":
        return array, "BF16"
    datatype = datatype_of(array)
    if datatype is None:
        raise PluginError(plugin, f"predict gave output {name!r} of type {array.dtype}, which has no v2 datatype")
    if spec is not None and not signature.is_open and datatype != spec.datatype:
        raise PluginError(plugin, f"predict gave output {name!r} as {datatype}, its metadata say {spec.datatype}")
    return array, datatype
