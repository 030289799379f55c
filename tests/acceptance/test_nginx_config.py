"""`tawara nginx-config`: Debian's nginx in front of an application sends files of the store."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.gateway_fixture import AUTHORISED, Answer, StoreFixture, store_fixture
from tests.acceptance.store import free_ports
from tests.acceptance.test_applications import DATA, HOST, QUICK, FakeApplication, fake_application

MAIN = """\
daemon off; pid pid; error_log error.log error; worker_processes 1;
events { worker_connections 128; }
http {
    include /etc/nginx/mime.types; default_type application/octet-stream; sendfile on; tcp_nopush on;
    types_hash_max_size 2048; access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include tawara.conf;
}
"""


@dataclass
class OtherNginx:
    """Debian's nginx, with the application and the gateway behind it."""

    store: StoreFixture
    application: FakeApplication
    directory: Path
    port: int

    async def ask(self, path: str = "/", method: str = "GET", **fields: str) -> Answer:
        """Send one request."""
        headers = {"Host": HOST, **{name.replace("_", "-"): text for name, text in fields.items()}}

        def ask() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request(method, path, headers=headers)
                response = connection.getresponse()
                return Answer(response.status, response.headers, response.read())
            finally:
                connection.close()

        return await asyncio.to_thread(ask)

    def write_key(self, key: str) -> None:
        """Let nginx use an access key."""
        (self.directory / "key.conf").write_text(f'proxy_set_header Authorization "Bearer {key}";\n')


@asynccontextmanager
async def other_nginx(directory: Path) -> AsyncIterator[OtherNginx]:
    """A started one, whose key may read the domain `d`."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "install Debian's nginx: bin/setup-tests"
    (port,) = free_ports(1)
    (directory / "debian").mkdir()
    async with (
        fake_application() as application,
        store_fixture(directory, nginx=False, limits=QUICK, balancers=("127.0.0.1", 0)) as store,
    ):
        assert (await store.put("/d/k?class=three", DATA, Content_Type="image/png")).status == 201
        one = OtherNginx(store, application, directory / "debian", port)
        one.write_key(await store.create_key("nginx", "d=r"))
        command = [sys.executable, "-m", "tawara", "nginx-config", f"{HOST}=127.0.0.1:{application.port}"]
        command += ["--gateway", "{}:{}".format(*store.gateway.balancers_address), "--listen", f"127.0.0.1:{port}"]
        command += ["--key-file", str(one.directory / "key.conf")]
        printed = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
        (one.directory / "tawara.conf").write_bytes(printed.stdout)
        (one.directory / "nginx.conf").write_text(MAIN + ("user root;\n" if os.geteuid() == 0 else ""))
        nginx = [program, "-p", f"{one.directory}/", "-e", "error.log", "-c", "nginx.conf"]
        tested = await asyncio.to_thread(subprocess.run, [*nginx, "-t"], capture_output=True, text=True, timeout=60)
        assert tested.returncode == 0, tested.stderr
        assert "warn" not in tested.stderr, tested.stderr
        process = subprocess.Popen(nginx)
        try:
            async with asyncio.timeout(30):
                while True:
                    with suppress(OSError):
                        await one.ask()
                        break
                    assert process.poll() is None
                    await asyncio.sleep(0.05)
            application.requests.clear()
            yield one
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


async def test_files_are_sent(tmp_path: Path) -> None:
    """The file comes from the storage nodes with the application's fields; ranges, conditions and overwrites hold."""
    async with other_nginx(tmp_path) as nginx:
        nginx.application.names("/_tawara/d/k", Content_Type="text/x-own", Cache_Control="private", Link="</x>")
        answer = await nginx.ask()
        assert (answer.status, answer.body) == (200, DATA)
        for name in ("Content-Type", "Cache-Control", "Link"):
            assert answer.headers.get_all(name) == [nginx.application.fields[name]]
        etag = answer["ETag"] or ""
        part = await nginx.ask(Range="bytes=7-99")
        assert (part.status, part.body, part["Content-Range"]) == (206, DATA[7:100], f"bytes 7-99/{len(DATA)}")
        assert (await nginx.ask(If_None_Match=etag)).status == 304
        assert nginx.store.gateway.streamed == 0
        for fields, expected in (({"If-Match": etag}, 200), ({"If-Match": '"x"'}, 412)):
            assert (await nginx.ask(**fields)).status == expected  # Python sends it: this nginx cannot clear conditions
        head = await nginx.ask(method="HEAD")
        assert (head.status, head["Content-Length"], head["Content-Type"]) == (200, str(len(DATA)), "text/x-own")
        nginx.application.fields = {}
        assert (await nginx.ask("/own")).body == b"echo "
        nginx.application.names("/_tawara/d/k")
        for number in range(3):
            assert (await nginx.store.put("/d/k?class=three", b"%d" % number * 99)).status == 204
            assert (await nginx.ask()).body == b"%d" % number * 99
        for devid in (1, 2):
            await nginx.store.stop_node(devid)
        for _ in range(4):
            assert (await nginx.ask(Range="bytes=1-")).body == b"2" * 98


async def test_what_is_refused(tmp_path: Path) -> None:
    """Clients cannot name files, applications no places, and a balancer without a key learns nothing."""
    async with other_nginx(tmp_path) as nginx:
        for path in ("/_tawara/d/k", "//_tawara/d/k", "/%5ftawara/d/k"):
            answer = await nginx.ask(path, X_Tawara_Step="file")
            assert answer.status == 404 or answer.body == b"echo "
        for place in ("@remote_1", "@file_stream", "@file_exhausted"):
            url = f"http://127.0.0.1:{nginx.application.port}/"
            nginx.application.fields = {"X-Accel-Redirect": place, "X-Tawara-Url-1": url, "X-Tawara-Target": "/d/k"}
            before = len(nginx.application.requests)
            assert ((await nginx.ask()).status, len(nginx.application.requests)) == (404, before + 1)
        for path in ("/_tawara/d/missing", "/_tawara/other/k"):
            nginx.application.names(path)
            assert (await nginx.ask()).status == 404

        def ask(headers: dict[str, str]) -> tuple[int, list[str]]:
            connection = http.client.HTTPConnection(*nginx.store.gateway.balancers_address, timeout=30)
            connection.request("GET", "/d/k", headers=headers)
            response = connection.getresponse()
            response.read()
            connection.close()
            return response.status, [name for name in response.headers if name.lower().startswith("x-")]

        step = {"X-Tawara-Step": "file"}
        assert await asyncio.to_thread(ask, step) == (503, [])
        assert await asyncio.to_thread(ask, {**step, "Authorization": "Bearer x"}) == (503, [])
        other = await nginx.store.create_key("other", "e=rw")
        assert await asyncio.to_thread(ask, {**step, "Authorization": f"Bearer {other}"}) == (404, [])
        for name in ("decide", "stream", "store", "unknown"):
            status, named = await asyncio.to_thread(ask, {**AUTHORISED, "X-Tawara-Step": name})
            assert (status, named) == (404, [])


@pytest.mark.parametrize(
    "arguments", [[], ["photos.example"], ["/x=127.0.0.1:1"], ["a;b=127.0.0.1:1"], ["a=b", "--listen", "x"]]
)
def test_usage(arguments: list[str]) -> None:
    """Wrong arguments are refused with an example, and nothing is printed."""
    command = [sys.executable, "-m", "tawara", "nginx-config", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tawara")
