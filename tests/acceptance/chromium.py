"""Debian's Chromium without a window, driven by its DevTools protocol; and a video for it."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import os
import shutil
import signal
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

SECONDS = 60.0
"""Limit for everything that is waited for; a loaded machine starts a browser slowly."""


class Page:
    """One page of the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        """Identifier -> url, headers of the request, and the status of the response."""
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
                continue
            told = said["params"]
            match said["method"]:
                case "Network.requestWillBeSent":
                    self.requests[told["requestId"]] = {"url": told["request"]["url"], **self._of(told)}
                case "Network.requestWillBeSentExtraInfo":
                    self._of(told)["headers"] = {name.lower(): text for name, text in told["headers"].items()}
                case "Network.responseReceived":
                    self._of(told)["status"] = told["response"]["status"]

    def _of(self, told: dict[str, Any]) -> dict[str, Any]:
        return self.requests.setdefault(told["requestId"], {})

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, SECONDS)
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        said = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true in the page; its value."""
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(AssertionError):  # while the page is being left
                    if value := await self.run(script):
                        return value
                await asyncio.sleep(0.05)

    async def open(self, url: str) -> None:
        """Load a page, and what it contains."""
        await self.run("document.leaving = true")
        await self.call("Page.navigate", url=url)
        await self.loaded()

    async def loaded(self) -> None:
        """Wait until another page than that marked as `document.leaving` is loaded."""
        await self.until("!document.leaving && document.readyState == 'complete'")

    async def submit(self, script: str) -> None:
        """Run a script that submits a form, and wait for the next page."""
        await self.run(f"document.leaving = true; {script}")
        await self.loaded()

    async def close(self) -> None:
        """Stop listening."""
        self._reader.cancel()
        await self._socket.close()


@asynccontextmanager
async def chromium(directory: Path) -> AsyncIterator[Callable[[], Any]]:
    """A started browser; a function that opens a page in a profile of its own, without another one's cookies."""
    program = shutil.which("chromium")
    assert program is not None, "install Debian's chromium: bin/setup-tests"
    profile = directory / "profile"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
    ]
    log = (directory / "chromium.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(program, *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    pages: list[Page] = []
    try:
        async with asyncio.timeout(SECONDS):
            while not (port := profile / "DevToolsActivePort").exists() or not port.read_text().count("\n"):
                assert process.returncode is None, (directory / "chromium.log").read_text()
                await asyncio.sleep(0.05)
        number, path = port.read_text().split("\n")[:2]
        async with aiohttp.ClientSession() as http:
            root = Page(await http.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=0))
            pages.append(root)

            async def open_page() -> Page:
                context = (await root.call("Target.createBrowserContext"))["browserContextId"]
                made = await root.call("Target.createTarget", url="about:blank", browserContextId=context)
                url = f"ws://127.0.0.1:{number}/devtools/page/{made['targetId']}"
                page = Page(await http.ws_connect(url, max_msg_size=0))
                pages.append(page)
                for domain in ("Page", "Network", "Runtime"):
                    await page.call(f"{domain}.enable")
                return page

            yield open_page
            for page in pages:
                await page.close()
    finally:
        log.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def as_file(name: str, kind: str, data: bytes) -> str:
    """A script that puts a file into the page's file field and submits its form."""
    encoded = base64.b64encode(data).decode()
    return (
        f"const bytes = Uint8Array.from(atob('{encoded}'), each => each.charCodeAt(0));"
        f"const files = new DataTransfer(); files.items.add(new File([bytes], '{name}', {{type: '{kind}'}}));"
        "const field = document.querySelector('[type=file]'); field.files = files.files; field.form.submit()"
    )


# --- a video: WebM (Matroska) with VP8, in which every picture is a key frame, as Pillow writes them into WebP --------


def _element(identifier: str, *content: bytes) -> bytes:
    data = b"".join(content)
    return bytes.fromhex(identifier) + (1 << 56 | len(data)).to_bytes(8) + data


def _number(identifier: str, value: int) -> bytes:
    return _element(identifier, value.to_bytes(8))


def webm(seconds: int) -> bytes:
    """A video of one picture a second, each of about 40 KB, which can be sought."""
    pictures = []
    for _ in range(4):
        Image.effect_noise((320, 240), 120).convert("RGB").save(data := io.BytesIO(), "WEBP", quality=90)
        content = data.getvalue()
        assert content[12:16] == b"VP8 "
        pictures.append(content[20 : 20 + int.from_bytes(content[16:20], "little")])
    header = _element(
        "1A45DFA3",
        *(_number(name, value) for name, value in (("4286", 1), ("42F7", 1), ("42F2", 4), ("42F3", 8))),
        *(_element("4282", b"webm"), _number("4287", 2), _number("4285", 2)),
    )
    info = _element(
        "1549A966",
        _number("2AD7B1", 1_000_000),
        _element("4489", struct.pack(">d", seconds * 1000.0)),
        _element("4D80", b"test"),
        _element("5741", b"test"),
    )
    size = _element("E0", _number("B0", 320), _number("BA", 240))
    tracks = _element(
        "1654AE6B",
        _element("AE", _number("D7", 1), _number("73C5", 1), _number("83", 1), _element("86", b"V_VP8"), size),
    )
    clusters = [
        _element(
            "1F43B675",
            _number("E7", second * 1000),
            _element("A3", b"\x81\x00\x00\x80" + pictures[second % len(pictures)]),
        )
        for second in range(seconds)
    ]

    def cues(start: int) -> bytes:
        points, position = [], start
        for second, cluster in enumerate(clusters):
            where = _element("B7", _number("F7", 1), _number("F1", position))
            points.append(_element("BB", _number("B3", second * 1000), where))
            position += len(cluster)
        return _element("1C53BB6B", *points)

    before = len(info) + len(tracks)
    return header + _element("18538067", info, tracks, cues(before + len(cues(0))), *clusters)
