"""Goes through the demo's steps, measures each, and gives the summary that `--once -o json` prints.

Every step looks at the mesh as a user would: through the API and the gateways. A step that fails raises `StepError`.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .... import __version__
from ....descriptions.errors import ShoalError, TransportError
from ....descriptions.kinds import Application, Node
from ....descriptions.load import load_paths
from ...api.answers import PlacementAnswer
from ...api.client import BlockingClient
from ...api.requests import JoinTokenRequest, MetricQuery, TelemetryQuery
from ...planner.explanation import Explanation
from ..apply import apply_one, in_order
from ..watching import ask
from .continuum import EXAMPLE, NODES, Continuum
from .telling import Teller

logger = logging.getLogger(__name__)
T = TypeVar("T")
APPLICATION, CLASSIFIER, PREFILTER, MODEL = "digits", "classifier", "prefilter", "digits"
JOIN_S, PLACE_S, TELEMETRY_S, FAILOVER_S = 45.0, 60.0, 40.0, 60.0
POLL_S = 0.1
ACCURACY_MIN = 0.9


class StepError(ShoalError):
    """A step of the demo failed."""


@dataclass(frozen=True)
class Image:
    """One held-out image: its raw PGM, the digit that it shows, the model's input."""

    name: str
    label: int
    pgm: bytes
    cells: list[float]


@dataclass
class Score:
    """How the answers compare with the labels."""

    answered: int = 0
    correct: int = 0
    total: int = 0


@dataclass
class Story:
    """The demo's steps, in order."""

    continuum: Continuum
    teller: Teller
    score: Score = field(default_factory=Score)

    def tell(self) -> dict[str, Any]:
        """Go through all steps; the summary."""
        try:
            return self._tell()
        except StepError:
            raise
        except (ShoalError, OSError) as error:
            raise StepError(str(error)) from error

    def _tell(self) -> dict[str, Any]:
        self.teller.chapter("Starting a broker, a control plane and four agents")
        self.continuum.start_control_plane()
        with self.continuum.client() as client:
            self._join(client)
            placements = self._place(client)
            self._infer(client, placements)
            telemetry = self._telemetry(client, placements)
            why = self._explain(client, "why is it there", placements[0].node)
            why_not = self._explain(client, "why isn't it here", "far-1")
            failover = self._failover(client, placements)
        return {
            "placements": [self._placement(one) for one in placements],
            "inference": vars(self.score),
            "telemetry": telemetry,
            "why": why.summary,
            "why_not": "; ".join(one.reason for node in why_not.nodes for one in node.failures) or why_not.summary,
            "failover": failover,
            "versions": versions(),
        }

    def _join(self, client: BlockingClient) -> None:
        for described in in_order(load_paths([EXAMPLE / "system.yaml"])):
            client.run(lambda api, kind=described.kind: api.apply(kind))  # type: ignore[misc]
        for name in NODES:
            token = client.run(lambda api, name=name: api.create_join_token(JoinTokenRequest(node=name))).token  # type: ignore[misc]
            self.continuum.start_agent(name, token)

        def joined() -> bool:
            nodes = client.run(lambda api: api.list(Node))
            ready = {one.metadata.name for one in nodes if one.status and one.status.phase == "ready"}
            self.teller.progress("nodes ready", len(ready & NODES.keys()), len(NODES))
            return NODES.keys() <= ready

        self._until(joined, JOIN_S, "all four nodes have joined")

    def _place(self, client: BlockingClient) -> list[PlacementAnswer]:
        self.teller.chapter("Applying examples/01-digits/application.yaml")
        for described in in_order(load_paths([EXAMPLE / "application.yaml"])):
            apply_one(client, described, dry_run=False, progress=lambda name: lambda done, total: None)
        wanted = sum(one.replicas for one in client.run(lambda api: api.get(Application, APPLICATION)).spec.components)

        def placed() -> bool:
            ready = self._ready(client)
            self.teller.progress("replicas ready", len(ready), wanted)
            return len(ready) >= wanted

        self._until(placed, PLACE_S, "every replica is ready")
        placements = sorted(self._ready(client), key=lambda one: one.id)
        self.teller.placements(placements)
        return placements

    def _infer(self, client: BlockingClient, placements: list[PlacementAnswer]) -> None:
        self.teller.chapter("Asking each replica to read handwritten digits that it has never seen")
        images = load_images()
        for one in self._of(placements, CLASSIFIER):
            score = Score()
            for image in images:
                self._count(score, image, classify(one.gateway, image))
            self.teller.scored(f"{one.id} on {one.node}", score.correct, score.total)
        prefilter = self._of(placements, PREFILTER)[0]
        score = Score()
        for image in images[:20]:
            self._count(score, image, through_prefilter(prefilter.ports["http"], image))
        self.teller.scored(f"raw images through {prefilter.id} on {prefilter.node}", score.correct, score.total)
        self.teller.shown(
            images[:6], [classify(self._of(placements, CLASSIFIER)[0].gateway, image) for image in images[:6]]
        )
        if self.score.answered < self.score.total or self.score.correct < ACCURACY_MIN * self.score.total:
            raise StepError(
                f"{self.score.correct} of {self.score.total} digits were read, {self.score.answered} answered"
            )

    def _count(self, score: Score, image: Image, digit: int | None) -> None:
        for one in (score, self.score):
            one.total += 1
            one.answered += digit is not None
            one.correct += digit == image.label

    def _telemetry(self, client: BlockingClient, placements: list[PlacementAnswer]) -> dict[str, int]:
        self.teller.chapter("Telemetry: what nodes, models and the application itself measured")
        asked = TelemetryQuery(
            queries=(
                MetricQuery(metric="system.cpu.utilization", statistic="mean", by="node"),
                MetricQuery(metric="system.memory.usage", statistic="last", by="node"),
                MetricQuery(metric="shoal.model.latency", statistic="p95", by="component"),
                MetricQuery(metric="shoal.model.requests", statistic="last", by="component"),
                MetricQuery(metric="digits.prefilter.images", statistic="last", by="component"),
            )
        )

        image = load_images()[0]

        def measured() -> bool:
            for one in self._of(placements, CLASSIFIER):
                classify(one.gateway, image)  # what is measured is what happens now
            answers = client.run(lambda api: api.telemetry(asked)).answers
            return len(answers[0].values) >= len(NODES) and all(one.values for one in answers)

        self._until(measured, TELEMETRY_S, "nodes, models and the pre-filter have reported")
        answers = client.run(lambda api: api.telemetry(asked)).answers
        self.teller.telemetry(answers)
        values = [value for answer in answers for value in answer.values]
        return {"metrics": len({one.metric for one in values}), "samples": sum(one.samples for one in values)}

    def _explain(self, client: BlockingClient, title: str, node: str) -> Explanation:
        told = client.run(lambda api: api.why(APPLICATION, CLASSIFIER, node))
        self.teller.explanation(f"{title}: shoal why {APPLICATION}/{CLASSIFIER} --node {node}", told)
        return told

    def _failover(self, client: BlockingClient, placements: list[PlacementAnswer]) -> dict[str, Any]:
        victim = self._of(placements, CLASSIFIER)[0]
        self.teller.chapter(f"Killing {victim.node}: agent, gateway and workers, with SIGKILL")
        killed, began_s = self.continuum.kill(victim.node)
        self.teller.note(f"{killed} processes killed; the slice's lease is 4 s")

        def lost() -> bool:
            node = client.run(lambda api: api.get(Node, victim.node))
            return node.status is not None and node.status.phase == "lost"

        detected_s = self._until(lost, FAILOVER_S, f"{victim.node} is declared lost", began_s)
        self.teller.note(f"lost after {detected_s:.1f} s")
        image = load_images()[0]

        def replaced() -> bool:
            for one in self._of(self._ready(client), CLASSIFIER):
                if one.id != victim.id and one.id not in {old.id for old in placements}:
                    return classify(one.gateway, image) is not None
            return False

        replaced_s = self._until(replaced, FAILOVER_S, "a replacement answers", began_s)
        now = self._ready(client)
        self.teller.note(f"a replacement answers after {replaced_s:.1f} s")
        self.teller.placements(now)
        prefilter = self._of(now, PREFILTER)[0]
        answered = through_prefilter(prefilter.ports["http"], image)
        if answered is None:
            raise StepError("the pre-filter gets no answer after the failover")
        return {
            "node": victim.node,
            "detected_s": round(detected_s, 2),
            "replaced_s": round(replaced_s, 2),
            "now_on": sorted(one.node for one in self._of(now, CLASSIFIER)),
        }

    def _ready(self, client: BlockingClient) -> list[PlacementAnswer]:
        placements = client.run(lambda api: api.placements(APPLICATION)).placements
        return [one for one in placements if one.phase == "ready" and not one.lost and one.wanted == "run"]

    def _of(self, placements: list[PlacementAnswer], component: str) -> list[PlacementAnswer]:
        return [one for one in placements if one.component == component]

    def _placement(self, one: PlacementAnswer) -> dict[str, str]:
        return {"replica": one.id, "component": one.component, "node": one.node, "phase": one.phase}

    def _until(self, holds: Callable[[], bool], timeout_s: float, what: str, began_s: float | None = None) -> float:
        """Wait for a condition; seconds since `began_s`."""
        start_s = time.monotonic()
        while time.monotonic() - start_s < timeout_s:
            if holds():
                return time.monotonic() - (start_s if began_s is None else began_s)
            self.continuum.check_alive()
            time.sleep(POLL_S)
        raise StepError(f"waited {timeout_s:.0f} s in vain until {what}")


def load_images() -> list[Image]:
    """The held-out images of the example."""
    images = []
    for path in sorted((EXAMPLE / "images").glob("*.pgm")):
        pgm = path.read_bytes()
        pixels = pgm[-32 * 32 :]
        cells = [pixels[row * 4 * 32 + column * 4] * 16 / 255 for row in range(8) for column in range(8)]
        images.append(Image(path.stem, int(path.stem.rpartition("-")[2]), pgm, cells))
    return images


def classify(gateway: str, image: Image) -> int | None:
    """The digit that the model reads; None when it does not answer, asked twice as any client of a network would."""
    body = {"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": image.cells}]}
    for _ in range(2):
        try:
            answer = ask(gateway, MODEL, json.dumps(body).encode(), timeout_s=10)
        except TransportError as error:
            logger.info("%s: %s", image.name, error)
            continue
        return next((int(one["data"][0]) for one in answer["outputs"] if one["name"] == "label"), None)
    return None


def through_prefilter(port: int, image: Image) -> int | None:
    """The digit that the far edge's pre-filter gets for a raw image."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/classify", data=image.pgm)
    for _ in range(2):
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                digit = json.loads(response.read(65536)).get("digit")
        except (OSError, ValueError, urllib.error.URLError) as error:
            logger.info("%s: %s", image.name, error)
            continue
        return digit if isinstance(digit, int) else None
    return None


def versions() -> dict[str, str]:
    """Of Shoal, Python and what serves the model."""
    found = {"shoal": __version__, "python": platform.python_version()}
    for package in ("onnxruntime", "paho-mqtt", "amqtt", "aiohttp", "SQLAlchemy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    return found
