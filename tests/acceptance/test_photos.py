"""The example `examples/photos` behind the gateway, in Chromium."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from tawara.client import AsyncClient
from tawara.gateway.nginx import NginxFront
from tawara.gateway.server import Gateway
from tawara.model.applications import number_applications
from tests.acceptance.chromium import SECONDS, as_file, chromium, webm
from tests.acceptance.cluster import Cluster, cluster
from tests.acceptance.store import free_ports

EXAMPLE = Path(__file__).parents[2] / "examples" / "photos" / "photos.py"
PAINTED = "[...document.images].every(each => each.complete && each.naturalWidth > 0) && document.images.length"
LOG_IN = "document.querySelector('[name=user]').value = '{0}'; document.querySelector('[name=password]').value = '{1}';"
SUBMIT = "document.forms[0].submit()"


@dataclass
class Album:
    """The running example."""

    store: Cluster
    client: AsyncClient
    url: str
    port: int
    """Where the example itself listens."""

    async def named(self, path: str) -> str | None:
        """The file that the example names for a path."""
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.headers.get("X-Accel-Redirect")


def picture(colour: str, size: tuple[int, int] = (800, 600)) -> bytes:
    """A JPEG of one colour."""
    Image.new("RGB", size, colour).save(data := io.BytesIO(), "JPEG")
    return data.getvalue()


@asynccontextmanager
async def album(directory: Path) -> AsyncIterator[Album]:
    """The example in its own process, behind the nginx of a gateway, over two storage nodes."""
    (port,) = free_ports(1)
    async with cluster(directory, hosts=2, devices=1, workers=True) as store, store.client() as client:
        await client.create_domain("photos")
        await store.view.refresh()
        gateway = Gateway(
            store.metadata,
            store.view,
            store.node_client,
            store.wakeups,
            listen=("127.0.0.1", 0),
            secret="the secret of the test",
            public_reads=False,
            nginx=NginxFront(directory / "nginx", workers=1),
            applications=number_applications([("photos.localhost", f"127.0.0.1:{port}", ["photos"], False)]),
        )
        await gateway.start()
        command = [sys.executable, "-m", "flask", "--app", str(EXAMPLE), "run", "--port", str(port)]
        environment = {**os.environ, "TAWARA_TRACKERS": store.trackers, "PHOTOS_BALANCER": "1"}
        with (directory / "flask.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            async with asyncio.timeout(SECONDS):
                while True:
                    try:
                        (await asyncio.open_connection("127.0.0.1", port))[1].close()
                        break
                    except OSError:
                        assert process.poll() is None, (directory / "flask.log").read_text()
                        await asyncio.sleep(0.05)
            yield Album(store, client, "http://photos.localhost:{1}/".format(*gateway.address), port)
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            await gateway.stop()


def test_the_example_is_small() -> None:
    """The example has at most 100 lines."""
    assert len(EXAMPLE.read_text().splitlines()) <= 100


@pytest.mark.timeout(240)
async def test_an_album_in_a_browser(tmp_path: Path) -> None:
    """Pictures are painted, seeking in a video sends a range, a stranger gets 403, a dead node is not seen.

    An overwrite is seen at the next load.
    """
    async with album(tmp_path) as one, chromium(tmp_path) as open_page:
        page = await open_page()
        await page.open(one.url)
        await page.submit(LOG_IN.format("ann", "secret") + SUBMIT)
        for number in range(3):
            await page.submit(as_file(f"{number}.jpg", "image/jpeg", picture("green")))
        assert await page.until(PAINTED) == 3
        assert await page.run("document.images[0].naturalWidth") == 256

        assert await one.named("/ann/0.jpg/thumbnail") == "/_tawara/photos/thumbnails/ann/0.jpg"
        assert (
            await page.run("fetch(document.images[0].src).then(answer => answer.headers.get('content-type'))")
            == "image/jpeg"
        )

        # A video, which the browser seeks.
        await one.client.put("photos", "originals/ann/clip.webm", webm(400), content_type="video/webm")
        await page.open(one.url)
        await page.until("document.querySelector('video').readyState >= 1")
        assert await page.run("document.querySelector('video').duration") == 400
        await page.run("document.querySelector('video').currentTime = 350")
        await page.until(
            "(v => !v.seeking && v.currentTime == 350 && v.readyState >= 2)(document.querySelector('video'))"
        )
        clips = [each for each in page.requests.values() if each.get("url", "").endswith("/clip.webm")]
        ranges = [each["headers"].get("range") for each in clips if each.get("status") == 206]
        assert any(text and int(text.removeprefix("bytes=").split("-")[0]) > 10_000_000 for text in ranges), clips

        # Another user, and one who is not logged in.
        stranger = await open_page()
        await stranger.open(one.url)
        status = "fetch('/ann/0.jpg{}').then(answer => answer.status)"
        assert await stranger.run(status.format("")) == 403
        await stranger.submit(LOG_IN.format("bob", "other") + SUBMIT)
        assert await stranger.run(status.format("")) == 403
        assert await stranger.run(status.format("/thumbnail")) == 200
        assert await stranger.run("fetch('/_tawara/photos/originals/ann/0.jpg').then(answer => answer.status)") == 404
        assert (
            await stranger.run(
                "fetch('/enter', {method: 'POST', body: new URLSearchParams('user=ann&password=x')})"
                ".then(answer => answer.status)"
            )
            == 403
        )
        assert await page.run(status.format("")) == 200

        # An overwrite.
        await page.submit(as_file("1.jpg", "image/jpeg", picture("red", (300, 600))))
        assert await page.until(PAINTED) == 3
        assert await page.run("document.images[1].naturalWidth") == 128

        # A dead node, when all pictures have two copies.
        async with asyncio.timeout(SECONDS):
            for key in [key async for key in one.client.list_keys("photos", "thumbnails/")]:
                while (await one.client.info("photos", key)).copies < 2:
                    await asyncio.sleep(0.1)
        for node in one.store.nodes[:1]:
            await node.stop()
        for _ in range(3):
            await page.call("Network.clearBrowserCache")
            await page.open(one.url)
            assert await page.until(PAINTED) == 3
