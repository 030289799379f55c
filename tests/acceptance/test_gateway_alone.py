"""A separate gateway: its directories, and nginx's access to this machine's disks."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.acceptance.daemons import Daemon
from tests.acceptance.store import free_ports, store


def test_settings_and_local_disks(tmp_path: Path) -> None:
    """State, spool and configuration are in three places; files of local devices are read without a storage node."""
    with store(tmp_path / "store", "--no-nginx") as up:
        body = b"local" * 30_000
        upload = urllib.request.Request(f"http://{up.gateway}/files/k", body, method="PUT")
        upload.add_header("Authorization", f"Bearer {up.key}")
        urllib.request.urlopen(upload, timeout=30).close()
        etc = tmp_path / "etc"
        etc.mkdir()
        (etc / "secret.key").write_text(up.key)
        (port,) = free_ports(1)
        settings = {
            "store.database": f"sqlite:{up.directory}/tawara.db",
            "node.devices": str(up.directory / "devices"),
            "gateway.listen": f"127.0.0.1:{port}",
            "gateway.state": str(tmp_path / "state"),
            "gateway.spool": str(tmp_path / "spool"),
        }
        tables: dict[str, list[str]] = {}
        for name, value in settings.items():
            table, _, field = name.partition(".")
            tables.setdefault(table, []).append(f'{field} = "{value}"')
        text = "".join(f"[{table}]\n" + "\n".join(lines) + "\n" for table, lines in tables.items())
        (etc / "tawara.toml").write_text(text)
        before = sorted(each.name for each in etc.iterdir())
        gateway = Daemon("gateway", ["gateway", "-c", str(etc / "tawara.toml")], tmp_path)
        gateway.start()
        try:
            again = urllib.request.Request(f"http://127.0.0.1:{port}/files/k2", body, method="PUT")
            again.add_header("Authorization", f"Bearer {up.key}")
            urllib.request.urlopen(again, timeout=30).close()
            assert sorted(each.name for each in etc.iterdir()) == before
            assert (tmp_path / "state" / "nginx.conf").exists() and (tmp_path / "spool" / "bodies").is_dir()
            up.kill()  # with its storage node
            for key in ("k", "k2"):
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}/files/{key}", timeout=30).read() == body
        finally:
            gateway.stop()
        assert "Unclosed" not in gateway.log.read_text()
