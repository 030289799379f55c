"""The configuration: rendering, reading, overriding, errors."""

from pathlib import Path

import msgspec
import pytest

from tawara.cli.configuration import Configuration, NodeSection, address, advertised, applications, cache, load, render
from tawara.model.errors import ConfigurationError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tawara.toml"
    path.write_text(text)
    return path


def test_rendered_file_reads_back_as_defaults(tmp_path: Path) -> None:
    """The commented file of a first run contains exactly the defaults."""
    assert load(written(tmp_path, render(Configuration())), environment={}) == Configuration()


def test_every_setting_is_commented() -> None:
    """Each setting in the file is preceded by a line that explains it."""
    lines = render(Configuration()).splitlines()
    settings = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(settings) > 12
    for number in settings:
        assert lines[number - 1].startswith("# "), lines[number]
        assert len(lines[number - 1]) > 10, lines[number]


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    """--set takes precedence over TAWARA_…, which takes precedence over the file."""
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
        ("tracker.lisen=1", r"Unknown setting tracker\.lisen; is 'listen' meant\?"),
        ("tracker.key_file=1", r"Unknown setting tracker\.key_file; is 'gateway\.key_file' meant\?"),
        ("database.url=1", r"Unknown section \[database\]; there are \[store\], \[tracker\], "),
        ("trakcer.listen=1", r"Unknown section \[trakcer\]; is 'tracker' meant\?"),
        ("nothing.here=1", "nothing"),
        ("node.advertise.x=1", "advertise"),
        ("gateway.public_reads=perhaps", "true or false"),
        ("care.presume_dead_hosts=2", "a number from 0"),
        ("tracker", "section.name=value"),
        ("care.presume_dead_bytes=nan", "a number from 0"),
        ("store.mindevcount=0", r"store\.mindevcount = '0': it must be a whole number from 1 to 255"),
        ("workers.replicate=999999999", "a whole number from 1 to 1000"),
        ("gateway.state=", "text, and not empty"),
        ("store.mindevcount=many", "store.mindevcount"),
        ("gateway.nginx=apache", "gateway.nginx"),
        ("gateway.apps=x", r"gateway\.apps = 'x': .*JSON"),
        ('gateway.apps={"a": {}}', r"missing required field `upstream`"),
        ('gateway.apps={"a": {"upstream": "x:1", "domains": ["d"], "domain": "d"}}', r"unknown field `domain`"),
    ],
)
def test_mistakes_are_named(setting: str, said: str) -> None:
    """An invalid setting is refused, and the error names it."""
    with pytest.raises(ConfigurationError, match=said):
        load(None, environment={}, settings=[setting])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[gateway.apps.a]\nupstream = "x"\ndomains = ["d"]', r"gateway\.apps: 'a': write it as ADDRESS:PORT"),
        ('[gateway.apps."/x/"]\nupstream = "x:1"\ndomains = []', r"gateway\.apps: '/x/': domains must list"),
        ('[gateway]\nnginx = "off"\n[gateway.apps.a]\nupstream = "x:1"\ndomains = ["d"]', "needs nginx"),
    ],
)
def test_applications_are_checked(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong with an application is said with its name."""
    with pytest.raises(ConfigurationError, match=said):
        applications(load(written(tmp_path, text), environment={}))


@pytest.mark.parametrize(
    ("listen", "peers", "secret", "said"),
    [
        ("10.0.0.1:7083", "10.0.0.2:7083", "s", "is not one of gateway.cache_peers"),
        ("", "10.0.0.2:7083", "s", "gateway.cache_listen"),
        ("host:7083", "host:7083", "s", "IP address"),
        ("0.0.0.0:7083", "0.0.0.0:7083", "s", "reach it"),
        ("10.0.0.1:7083", "10.0.0.1:7083, x", "s", "gateway.cache_peers"),
        ("10.0.0.1:7083", "10.0.0.1:7083", "", "keys.key, which cannot"),
    ],
)
def test_the_caches_of_gateways_are_checked(listen: str, peers: str, secret: str, said: str) -> None:
    """Gateways that could not find each other are refused, with the setting to correct."""
    settings = [f"gateway.cache_listen={listen}", f"gateway.cache_peers={peers}"]
    with pytest.raises(ConfigurationError, match=said):
        cache(load(None, environment={}, settings=settings), secret)


def test_a_cache() -> None:
    """By default the cache has 1 GiB and is not shared; peers are written as nginx does."""
    alone = cache(load(None, environment={}), "")
    assert alone is not None
    assert (alone.size, alone.file, alone.listen, alone.peers) == (1 << 30, 16 << 20, "", [])
    assert cache(load(None, environment={}, settings=["gateway.cache_mb=0"]), "") is None
    assert cache(load(None, environment={}, settings=["gateway.nginx=off"]), "") is None
    settings = ["gateway.cache_listen=[0::1]:7083", "gateway.cache_peers=10.0.0.1:7083 , [::1]:7083"]
    shared = cache(load(None, environment={}, settings=settings), "s")
    assert shared is not None
    assert (shared.listen, shared.peers) == ("[::1]:7083", ["10.0.0.1:7083", "[::1]:7083"])


def test_every_number_has_limits() -> None:
    """No number is so large that a daemon would hang, run out of memory, or fail later where it is used."""
    numbers = [
        (section.name, field.name)
        for section in msgspec.structs.fields(Configuration)
        for field in msgspec.structs.fields(section.type)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool)
    ]
    assert len(numbers) > 10
    for section, field in numbers:
        with pytest.raises(ConfigurationError, match=r"a (whole )?number from \d+ to \d+"):
            load(None, environment={}, settings=[f"{section}.{field}=99999999999999999999"])


def test_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is not TOML is refused with its path and line."""
    with pytest.raises(ConfigurationError, match=r"tawara\.toml.*line 1"):
        load(written(tmp_path, "listen = =\n"), environment={})


def test_addresses() -> None:
    """ADDRESS:PORT is parsed, with IPv6 brackets and a default of loopback; anything else is refused."""
    assert address("127.0.0.1:7001", "x") == ("127.0.0.1", 7001)
    assert address("[::1]:80", "x") == ("::1", 80)
    assert address(":80", "x") == ("127.0.0.1", 80)
    wrong = ["80", "host:", "host:http", "host:99999", "[::1:80", "::1:80", "[1]:80", "a b:80", "1.2.3:80", "x:²"]
    for each in [*wrong, "*:80", "http://x:80", "[::1]x:80", "999.1.1.1:80"]:
        with pytest.raises(ConfigurationError, match="x = "):
            address(each, "x")


def test_the_advertised_address() -> None:
    """The advertised address is the one listened on unless another is set; an unreachable one is refused with a
    hint."""
    assert advertised(NodeSection()) == "127.0.0.1"
    assert advertised(NodeSection(listen="0.0.0.0:1", advertise="store1.lan")) == "store1.lan"
    assert advertised(NodeSection(listen="[::]:1", advertise="fd00::1")) == "fd00::1"
    for listen in ("0.0.0.0:7500", "[::]:7500", "[0::0]:0"):
        with pytest.raises(ConfigurationError, match="every address") as refused:
            advertised(NodeSection(listen=listen))
        assert "node.advertise" in (refused.value.hint or "")
    for wrong in ("0.0.0.0", "::", "10.0.0.1:7500", "http://x", "a b", "10.0.0.300", "224.0.0.1", "fe80::1%eth0", "-"):
        with pytest.raises(ConfigurationError, match=r"node\.advertise"):
            advertised(NodeSection(advertise=wrong))


@pytest.mark.parametrize("text", ["tracker = 5", "[tracker]\nlisten = 5", "[[tracker]]", "[tracker.listen]\nx = 1"])
def test_a_value_in_place_of_a_section(text: str, tmp_path: Path) -> None:
    """A value where a section belongs, and one of a wrong type, are named in the error, also when --set changes the
    section."""
    for settings in ([], ["tracker.connections=5"]):
        with pytest.raises(ConfigurationError, match="tracker"):
            load(written(tmp_path, text), environment={}, settings=settings)


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    """A configuration that is not UTF-8 is refused, and the error names the file."""
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin\.toml"):
        load(tmp_path / "latin.toml", environment={})
