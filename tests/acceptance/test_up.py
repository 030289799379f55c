"""`tawara up`: one command that starts a store, and its stop, refusals and restart."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import closing
from pathlib import Path

import boto3
import pytest

from tests.acceptance.store import STOP_SECONDS, TAWARA, Store, free_ports, store


def test_first_run_creates_everything(tmp_path: Path) -> None:
    """From nothing: a commented configuration, private keys, four devices, and every component responds. The name of
    the directory has characters that are special in URLs and in nginx's configuration."""
    with store(tmp_path / "a store%20b?c#d;$e") as one:
        directory = one.directory
        for name in ("secret.key", "access-key", "access-key.netrc"):
            assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
        for part in ("s3", "dav"):
            assert tomllib.loads((directory / "tawara.toml").read_text())[part]["listen"].startswith("127.0.0.1:708")
        assert stat.S_IMODE((directory / "tawara.db").stat().st_mode) == 0o600
        assert "# " in (directory / "tawara.toml").read_text()
        assert sorted(each.name for each in (directory / "devices").glob("dev*")) == ["dev1", "dev2", "dev3", "dev4"]
        with socket.create_connection(("127.0.0.1", int(one.tracker.rpartition(":")[2])), 5) as line:
            line.sendall(b"noop\r\n")
            assert line.recv(100) == b"OK \r\n"
        assert b"used:" in urllib.request.urlopen(f"http://{one.node}/dev1/usage", timeout=5).read()
        assert one.run("put", "-", "files/a b", input="hello").returncode == 0
        assert urllib.request.urlopen(f"http://{one.gateway}/files/a%20b", timeout=5).read() == b"hello"
        assert one.stop() < STOP_SECONDS
        assert one.processes() == []


def test_reproxy_is_a_setting(tmp_path: Path) -> None:
    """With `gateway.reproxy` a proxy that offers to fetch the file itself gets the URLs of the storage node."""
    one = Store(tmp_path / "store", ["--set=gateway.reproxy=true", "--set=gateway.nginx=off"])
    one.start()
    try:
        assert one.run("put", "-", "files/a", input="hello").returncode == 0
        offer = urllib.request.Request(
            f"http://{one.gateway}/files/a", headers={"X-Proxy-Capabilities": "reproxy-file"}
        )
        answer = urllib.request.urlopen(offer, timeout=5)
        assert f"http://{one.node}/" in answer.headers["X-REPROXY-URL"]
        assert answer.headers["X-REPROXY-EXPECTED-SIZE"] == "5"
        assert one.stop() < STOP_SECONDS
    finally:
        one.kill()


def test_the_printed_commands_work(tmp_path: Path) -> None:
    """The output names the addresses, and its commands work; the secret of the access key is only in its file."""
    one = Store(tmp_path / "a store")
    command = [each for each in one.command() if each != "--json"]
    with one.log.open("wb") as log:
        one.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
    try:
        assert one.process.stdout is not None
        lines = []
        while "Ctrl-C" not in (line := one.process.stdout.readline()):
            assert line, one.log.read_text()
            lines.append(line)
        said = "".join(lines)
        for address in (one.tracker, one.node, one.gateway, one.s3, one.webdav):
            assert address in said
        put, get, upload, aws, webdav = (line.strip() for line in lines if re.match(r"  (echo|curl|AWS_\S+) ", line))
        subprocess.run(put, shell=True, check=True, timeout=30)
        assert subprocess.run(get, shell=True, check=True, capture_output=True, timeout=30).stdout == b"hello\n"
        file = tmp_path / "FILE"
        file.write_text("by curl")
        subprocess.run(upload, shell=True, check=True, cwd=tmp_path, timeout=30)
        assert one.run("get", "files/FILE", "-").stdout == "by curl"
        file.write_text("by curl and WebDAV")
        subprocess.run(webdav, shell=True, check=True, cwd=tmp_path, timeout=30)
        assert one.run("get", "files/FILE", "-").stdout == "by curl and WebDAV"
        run_aws(aws, one, tmp_path)
        assert one.run("get", "files/FILE", "-").stdout == "by S3"
        secret = re.findall(r"^aws_secret_access_key = (\w{20,})$", (one.directory / "access-key").read_text(), re.M)
        assert secret[0] not in said + one.log.read_text()
        assert "access-key" in said
    finally:
        one.kill()


def run_aws(command: str, one: Store, directory: Path) -> None:
    """Run the printed command of awscli or, without awscli, do the same by boto3 with the printed file and address."""
    (directory / "FILE").write_text("by S3")
    credentials, program, option, url, *words = shlex.split(command)
    name, _, path = credentials.partition("=")
    assert (name, program, option) == ("AWS_SHARED_CREDENTIALS_FILE", "aws", "--endpoint-url")
    assert words == ["s3", "cp", "FILE", "s3://files/"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if shutil.which("aws", path=environment["PATH"]):
        subprocess.run(command, shell=True, check=True, cwd=directory, timeout=60, env=environment)
        return
    key = configparser.ConfigParser()
    key.read(path)
    client = boto3.session.Session().client(
        "s3", endpoint_url=url, region_name="us-east-1", **dict(key["default"].items())
    )
    with closing(client):
        client.upload_file(str(directory / "FILE"), "files", "FILE")


def test_the_access_key_of_the_first_run(tmp_path: Path) -> None:
    """A later run says where the key is; one that was revoked stays so, and one whose file is gone is not replaced."""
    one = Store(tmp_path / "store")
    try:
        one.start()
        configuration = str(one.directory / "tawara.toml")
        keys = [json.loads(line) for line in one.run("key", "list", "--json", "-c", configuration).stdout.splitlines()]
        assert [(each["name"], each["grants"]) for each in keys] == [("first-run", ["*=rwa"])]
        one.run("key", "revoke", "first-run", "-c", configuration)
        one.stop()
        one.start()
        keys = [json.loads(line) for line in one.run("key", "list", "--json", "-c", configuration).stdout.splitlines()]
        assert [(each["name"], each["state"]) for each in keys] == [("first-run", "revoked")]
        one.stop()
        (one.directory / "access-key").unlink()
        one.start()
        assert not (one.directory / "access-key").exists()
    finally:
        one.kill()


def test_second_up_refuses(tmp_path: Path) -> None:
    """A directory has one store at a time; a second one ends with a message and affects nothing."""
    with store(tmp_path / "store") as one:
        second = subprocess.run(Store(one.directory).command(), capture_output=True, text=True, timeout=30)
        assert second.returncode == 4
        assert "running on" in second.stderr
        assert "Traceback" not in second.stderr
        assert one.run("status").returncode == 0


@pytest.mark.parametrize("component", ["tracker", "node", "gateway"])
def test_a_port_in_use_is_reported(tmp_path: Path, component: str) -> None:
    """A port in use is reported with its purpose, and nothing keeps running."""
    one = Store(tmp_path / "store")
    address = getattr(one, component)
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        refused = subprocess.run(one.command(), capture_output=True, text=True, timeout=30)
    assert refused.returncode not in (0, 1), refused.stderr
    assert address in refused.stderr
    assert component.replace("node", "storage node") in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("flags", [[], ["--no-nginx"]])
def test_a_killed_store_continues(tmp_path: Path, flags: list[str]) -> None:
    """After kill -9 of everything, and of the main process alone, the next `up` has all acknowledged files."""
    one = Store(tmp_path / "store", flags)
    try:
        one.start()
        one.run("put", "-", "files/one", input="1")
        one.kill()
        one.start()
        one.run("put", "-", "files/two", input="2")
        assert one.process is not None
        one.process.kill()
        one.process.wait(10)
        one.start()
        for key, content in (("one", b"1"), ("two", b"2")):
            assert urllib.request.urlopen(f"http://{one.gateway}/files/{key}", timeout=10).read() == content
        assert one.stop() < STOP_SECONDS
    finally:
        one.kill()


def test_sigterm_while_idle_clients_are_connected(tmp_path: Path) -> None:
    """Open connections to every component do not delay the stop."""
    with store(tmp_path / "store") as one:
        addresses = [("127.0.0.1", int(each.rpartition(":")[2])) for each in (one.tracker, one.node, one.gateway)]
        connections = [socket.create_connection(address, 5) for address in addresses * 5]
        try:
            assert one.stop() < STOP_SECONDS
        finally:
            for connection in connections:
                connection.close()


@pytest.mark.parametrize("setting", ["tracker.port=1", "node.listen="])
def test_wrong_configuration_is_refused(tmp_path: Path, setting: str) -> None:
    """A setting that does not exist, or is invalid here, is named, with exit code 2."""
    [side] = free_ports(1)
    command = [*TAWARA, "up", str(tmp_path / "store"), f"--set=node.side_channel=127.0.0.1:{side}", "--set", setting]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert refused.returncode == 2
    assert setting.partition(".")[0] in refused.stderr
    assert "Traceback" not in refused.stderr
