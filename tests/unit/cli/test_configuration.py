"""The configuration: rendered, read back, overridden, refused."""

from pathlib import Path

import pytest

from tawara.cli.configuration import Configuration, address, load, render
from tawara.model.errors import ConfigurationError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tawara.toml"
    path.write_text(text)
    return path


def test_rendered_file_reads_back_as_it_was(tmp_path: Path) -> None:
    """The commented file of a first run says exactly the defaults."""
    assert load(written(tmp_path, render(Configuration())), environment={}) == Configuration()


def test_every_setting_is_commented() -> None:
    """No setting stands in the file without a line that explains it."""
    lines = render(Configuration()).splitlines()
    settings = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(settings) > 12
    for number in settings:
        assert lines[number - 1].startswith("# "), lines[number]
        assert len(lines[number - 1]) > 10, lines[number]


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    """--set beats TAWARA_…, which beats the file."""
    path = written(
        tmp_path, '[tracker]\nlisten = "1.1.1.1:1"\n[store]\nmindevcount = 4\n[gateway]\npublic_reads = false'
    )
    environment = {"TAWARA_TRACKER_LISTEN": "2.2.2.2:2", "TAWARA_STORE_MINDEVCOUNT": "5"}
    loaded = load(path, environment=environment, settings=["tracker.listen=3.3.3.3:3"])
    assert loaded.tracker.listen == "3.3.3.3:3"
    assert loaded.store.mindevcount == 5
    assert loaded.gateway.public_reads is False


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("tracker.lisen=1", "lisen"),
        ("nothing.here=1", "nothing"),
        ("tracker", "section.name=value"),
        ("store.mindevcount=0", "store.mindevcount"),
        ("store.mindevcount=many", "store.mindevcount"),
        ("gateway.nginx=apache", "gateway.nginx"),
    ],
)
def test_mistakes_are_named(setting: str, said: str) -> None:
    """A wrong setting is refused with its name."""
    with pytest.raises(ConfigurationError, match=said):
        load(None, environment={}, settings=[setting])


def test_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is not TOML is refused with its path and line."""
    with pytest.raises(ConfigurationError, match=r"tawara\.toml.*line 1"):
        load(written(tmp_path, "listen = =\n"), environment={})


def test_addresses() -> None:
    """ADDRESS:PORT is read with IPv6 brackets and with a default of loopback; anything else is refused."""
    assert address("127.0.0.1:7001", "x") == ("127.0.0.1", 7001)
    assert address("[::1]:80", "x") == ("::1", 80)
    assert address(":80", "x") == ("127.0.0.1", 80)
    for wrong in ("80", "host:", "host:http", "host:99999"):
        with pytest.raises(ConfigurationError):
            address(wrong, "x")
