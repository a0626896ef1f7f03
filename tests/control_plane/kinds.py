"""Small kinds for tests."""

from __future__ import annotations

from typing import Any

from shoal.descriptions.kinds import Application, Model, Node, Slice


def a_slice(**failover: Any) -> Slice:
    """The slice `test`, with these failover settings."""
    return Slice.model_validate({"metadata": {"name": "test"}, "spec": {"failover": failover}})


def a_node(name: str, cpu: str = "4", **spec: Any) -> Node:
    """A node of the edge."""
    return Node.model_validate({"metadata": {"name": name}, "spec": {"hardware": {"cpu": cpu}, **spec}})


def an_app(application: str = "app", *components: dict[str, Any], **component: Any) -> Application:
    """An application with these components, or with one process `web` that has these keys."""
    one = {"name": "web", "process": {"command": ["/bin/web"]}, "resources": {"cpu": "1"}, **component}
    return Application.model_validate(
        {"metadata": {"name": application}, "spec": {"components": list(components) or [one]}}
    )


def a_model(name: str = "digits", version: str = "1", *, stored: bool = True) -> Model:
    """A model whose contents are on the control plane."""
    digest = (version * 64)[:64]
    return Model.model_validate(
        {
            "metadata": {"name": name},
            "spec": {"format": "onnx", "version": version, "source": {"file": "m.onnx"}},
            "status": {"stored": stored, "sha256": digest, "size": "1Ki"},
        }
    )
