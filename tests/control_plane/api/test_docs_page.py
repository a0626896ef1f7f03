"""The API's page: served whole from here, nothing loaded from elsewhere, shown by a real browser where there is one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

WEB = Path(__file__).resolve().parents[3] / "control_plane" / "api" / "web"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=10000", "--dump-dom"),
)


@pytest.mark.parametrize("path", sorted(WEB.iterdir()), ids=lambda path: path.name)
def test_no_asset_names_another_host(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.", text, re.IGNORECASE), "a link to elsewhere"
    assert "@import" not in text
    assert "innerHTML" not in text, "text is set as text"


def test_everything_that_the_page_loads_is_served_with_a_strict_policy(serve: Any) -> None:
    async def run() -> None:
        async with serve() as served:
            page = await served.ask("GET", "/docs", role=None)
            assert page.headers["Content-Type"] == "text/html; charset=utf-8"
            policy = page.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            html = page.body.decode()
            assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=", html), "nothing inline"
            loaded = re.findall(r'(?:src|href)="(?!#|data:)([^"]+)"', html)
            assert loaded == ["docs/docs.css", "docs/docs.js", "openapi.json", "openapi.json"]
            for asset in set(loaded):
                answer = await served.ask("GET", f"/{asset}", role=None)
                assert answer.status == 200
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            for missing in ("/docs/other.js", "/docs/docs.html", "/docs/..%2fserver.py"):
                assert (await served.ask("GET", missing, role=None)).status in (400, 404)

    asyncio.run(run())


def test_the_document_is_fetched_again_only_when_it_changed(serve: Any) -> None:
    async def run() -> None:
        async with serve() as served:
            first = await served.ask("GET", "/openapi.json", role=None)
            assert json.loads(first.body)["openapi"] == "3.1.0"
            again = await served.ask("GET", "/openapi.json", role=None, If_None_Match=first.headers["ETag"])
            assert (again.status, again.body) == (304, b"")

    asyncio.run(run())


@pytest.mark.skipif(BROWSER is None, reason="no browser here; the assets are checked above")
def test_a_browser_shows_every_route(serve: Any, tmp_path: Path) -> None:
    assert BROWSER is not None

    async def run() -> str:
        async with serve() as served:
            command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'browser'}", f"{served.url}/docs"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
            return str(done.stdout)

    shown = asyncio.run(run())
    assert "could not be built" not in shown
    links = re.findall(r'href="#route/(\w+)"', shown)
    assert {"listNodes", "applyApplication", "why", "join", "docsAsset"} <= set(links)
    assert "One slice's control plane" in shown
