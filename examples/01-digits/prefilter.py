"""Turns raw images into the digit model's input and forwards them: the far-edge component of this example.

It listens on `SHOAL_PORT_HTTP` for 32 × 32 PGM images (`POST /classify`), drops blank ones before they cost any
bandwidth, shrinks the rest to the model's 8 × 8 input and asks the node's own gateway (`SHOAL_GATEWAY`), which knows
the nodes that serve the model right now. It counts what it saw and pushes that as OTLP/HTTP to its agent. It needs the
standard library only.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GATEWAY = os.environ["SHOAL_GATEWAY"]
MODEL = os.environ.get("MODEL", "digits")
BODY_MAX = 64 * 1024
INK_MIN = 16.0  # less ink than this, summed over 64 cells of 0–16 each, is a blank image
TIMEOUT_S = 5.0
seen = {"forwarded": 0, "blank": 0, "failed": 0}
seen_lock = threading.Lock()


class ImageError(ValueError):
    """The body is not an image that this filter takes."""


def read_pgm(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a binary PGM (P5) with 8 bits a pixel."""
    head = data.split(maxsplit=3)
    if len(head) < 4 or head[0] != b"P5":
        raise ImageError("not a binary PGM (P5)")
    try:
        width, height = int(head[1]), int(head[2])
    except ValueError:
        raise ImageError("width and height must be numbers") from None
    pixels = data[-width * height :] if 0 < width * height <= BODY_MAX else b""
    if not head[3].startswith(b"255") or len(pixels) != width * height or width % 8 or height % 8:
        raise ImageError("expected 8-bit pixels and sides that are multiples of 8")
    return width, height, pixels


def shrink(width: int, height: int, pixels: bytes) -> list[float]:
    """Mean of each of 8 × 8 blocks, scaled to ink 0–16 as the model was trained on."""
    cell_w, cell_h = width // 8, height // 8
    cells = []
    for row in range(8):
        for column in range(8):
            block = sum(sum(pixels[(row * cell_h + y) * width + column * cell_w :][:cell_w]) for y in range(cell_h))
            cells.append(block / (cell_w * cell_h) * 16 / 255)
    return cells


def infer(cells: list[float]) -> dict[str, object]:
    """Ask the model through the node's gateway; the answer says which digit and how sure."""
    body = json.dumps({"inputs": [{"name": "X", "shape": [1, 64], "datatype": "FP32", "data": cells}]}).encode()
    request = urllib.request.Request(
        f"{GATEWAY}/v2/models/{MODEL}/infer", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        outputs = {one["name"]: one["data"] for one in json.load(response)["outputs"]}
    return {"digit": outputs["label"][0], "probability": max(outputs["probabilities"])}


class Handler(BaseHTTPRequestHandler):
    """One request: an image in, a digit out."""

    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        """Say that the filter is up."""
        self.answer(200, {"ready": True, **seen})

    def do_POST(self) -> None:
        """Classify one image."""
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 < size <= BODY_MAX:
            return self.answer(413, {"error": f"send 1 to {BODY_MAX} bytes"})
        try:
            cells = shrink(*read_pgm(self.rfile.read(size)))
        except ImageError as error:
            return self.answer(400, {"error": str(error)})
        if sum(cells) < INK_MIN:
            self.count("blank")
            return self.answer(200, {"blank": True})
        try:
            found = infer(cells)
        except (urllib.error.URLError, OSError, KeyError, ValueError) as error:
            self.count("failed")
            return self.answer(502, {"error": f"the model did not answer: {error}"})
        self.count("forwarded")
        return self.answer(200, found)

    def count(self, what: str) -> None:
        """Add one to a counter."""
        with seen_lock:
            seen[what] += 1

    def answer(self, status: int, body: dict[str, object]) -> None:
        """Send JSON."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Stay quiet: counters tell more than a line for each image."""


def push_metrics(endpoint: str) -> None:
    """Push the counters to the agent every two seconds, as OTLP/HTTP JSON."""
    started = time.time_ns()
    while True:
        time.sleep(2)
        points = [
            {
                "attributes": [{"key": "outcome", "value": {"stringValue": outcome}}],
                "startTimeUnixNano": str(started),
                "timeUnixNano": str(time.time_ns()),
                "asInt": str(count),
            }
            for outcome, count in seen.items()
        ]
        metric = {
            "name": "digits.prefilter.images",
            "unit": "{image}",
            "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": points},
        }
        service = {"key": "service.name", "value": {"stringValue": os.environ.get("OTEL_SERVICE_NAME", "prefilter")}}
        body = {"resourceMetrics": [{"resource": {"attributes": [service]}, "scopeMetrics": [{"metrics": [metric]}]}]}
        request = urllib.request.Request(
            f"{endpoint}/v1/metrics", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except OSError:
            continue  # the agent may be restarting; counters are cumulative, so nothing is lost


def main() -> None:
    """Serve until stopped."""
    if endpoint := os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        threading.Thread(target=push_metrics, args=(endpoint,), daemon=True).start()
    port = int(os.environ["SHOAL_PORT_HTTP"])
    print(f"prefilter: listening on 127.0.0.1:{port}, asking {GATEWAY} for {MODEL}", flush=True)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
