"""Creating a store's directory."""

from __future__ import annotations

from pathlib import Path

from tawara.cli.first_run import prepare_directory


def test_names_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    """A key file and a directory of devices with names of 255 bytes are created, and no temporary files remain."""
    key, devices = "鍵" * 85, "俵" * 85
    prepare_directory(tmp_path, [f"gateway.key_file={key}", f"node.devices={devices}"])
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([key, devices, "tawara.toml", "keys.key"])
    assert len(list((tmp_path / devices).iterdir())) == 4
