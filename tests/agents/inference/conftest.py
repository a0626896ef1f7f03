"""Gateways that end with the test and all that they started, models, and a predictor that misbehaves on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shoal.descriptions.messages.gateway import ServingSpec

from .harness import PREDICTOR, GatewayProcess, Launch, mixed_model, scaling_model, start_gateway, v2


@pytest.fixture
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Start gateways that end with the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOAL_SECRET_OF_THE_TEST", "1")
        started: list[GatewayProcess] = []

        def start(*flags: str, dir: Path | None = None) -> GatewayProcess:  # noqa: A002
            gateway = start_gateway(dir or tmp_path_factory.mktemp("gateway"), flags)
            started.append(gateway)
            return gateway

        yield start
        for gateway in started:
            gateway.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, predictors: Path) -> Iterator[GatewayProcess]:
    """One gateway for all tests of a module that leave it as they found it."""
    gateway = start_gateway(tmp_path_factory.mktemp("gateway"), ("--predictors", str(predictors)))
    yield gateway
    gateway.end()


@pytest.fixture(scope="session")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of allowed predictors, with `moody.py` in it."""
    folder = tmp_path_factory.mktemp("predictors")
    (folder / "moody.py").write_text(PREDICTOR)
    return folder


@pytest.fixture(scope="session")
def moody(predictors: Path) -> ServingSpec:
    """Serve the predictor that does what it is told."""
    return ServingSpec(model="moody", path=str(predictors / "moody.py"), plugin="python", request_timeout_s=20.0)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ONNX models: `double.onnx`, `triple.onnx` and `mixed.onnx`."""
    folder = tmp_path_factory.mktemp("models")
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        (folder / f"{name}.onnx").write_bytes(scaling_model(factor))
    (folder / "mixed.onnx").write_bytes(mixed_model())
    return folder


@pytest.fixture(scope="session")
def double(models: Path) -> ServingSpec:
    return ServingSpec(model="scale", path=str(models / "double.onnx"), plugin="onnx", digest="two")


@pytest.fixture(scope="session")
def triple(models: Path) -> ServingSpec:
    """A newer version of the same model."""
    return ServingSpec(model="scale", path=str(models / "triple.onnx"), plugin="onnx", version="2", digest="three")


@pytest.fixture
def ask() -> Callable[..., bytes]:
    """Build a JSON infer request of one input: `ask(data, name=…, datatype=…, shape=…)`."""
    return v2
