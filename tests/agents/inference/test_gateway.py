"""The gateway end to end: models of three runtimes behind real processes, asked as clients ask."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from shoal.descriptions.messages.gateway import ServingSpec

from .harness import GatewayProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
Ask = Callable[..., bytes]


@pytest.fixture(scope="module", autouse=True)
def served(shared: GatewayProcess, double: ServingSpec, moody: ServingSpec) -> None:
    for name, spec in (("double", double), ("moody", moody)):
        shared.serve(name, spec)


def test_json_in_json_out(shared: GatewayProcess, ask: Ask) -> None:
    answer = shared.infer("scale", ask([1, 2.5, -3, 0], shape=[1, 4], id="seven"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in answer.headers
    assert answer.json == {
        "model_name": "scale",
        "model_version": "1",
        "id": "seven",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [2.0, 5.0, -6.0, 0.0]}],
    }


def test_binary_in_binary_out(shared: GatewayProcess) -> None:
    x = np.arange(8, dtype="<f4").reshape(2, 4)
    head = {
        "inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    text = json.dumps(head).encode()
    answer = shared.infer("scale", text + x.tobytes(), {"Inference-Header-Content-Length": str(len(text))})
    assert answer.status == 200
    size = int(answer.headers["inference-header-content-length"])
    told = json.loads(answer.body[:size])
    assert told["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": 32}}
    ]
    assert np.array_equal(np.frombuffer(answer.body[size:], "<f4").reshape(2, 4), 2 * x)


def test_python_predictor(shared: GatewayProcess, ask: Ask) -> None:
    assert shared.infer("moody", ask([20, 21], datatype="FP64")).json["outputs"][0]["data"] == [40, 42]
