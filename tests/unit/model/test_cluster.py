"""Which operations a device allows, by its own state, its host's, and what was observed."""

import itertools

import pytest

from tawara.model.cluster import (
    Checksum,
    Cluster,
    Device,
    DeviceState,
    HashType,
    Host,
    HostState,
    Observation,
    Observed,
)


def cluster(host: HostState, device: DeviceState, seen: Observed | None, *, free: int | None = 1000) -> Cluster:
    total = None if free is None else 10_000
    used = None if free is None else 10_000 - free
    return Cluster(
        hosts={1: Host(1, "h", host, "10.0.0.1")},
        devices={1: Device(1, 1, device, mb_total=total, mb_used=used)},
        observed={} if seen is None else {1: Observation(seen)},
    )


@pytest.mark.parametrize(("host", "device", "seen"), list(itertools.product(HostState, DeviceState, [*Observed, None])))
def test_predicates_follow_the_table_of_the_reference(
    host: HostState, device: DeviceState, seen: Observed | None
) -> None:
    """docs/mogilefs.md 8.1 and 8.3, for every combination of states."""
    now = cluster(host, device, seen)
    readable = host in {"alive", "readonly"} and device in {"alive", "readonly", "drain"}
    assert now.can_read_from(1) is readable
    assert now.should_read_from(1) is (readable and seen in {"readable", "writeable"})
    assert now.can_delete_from(1) is (host == "alive" and device in {"alive", "drain"})
    assert now.should_get_new_files(1) is (host == "alive" and device == "alive" and seen == "writeable")
    assert now.counts_as_replica(1) is (device != "dead")


def test_full_device_gets_nothing() -> None:
    """Below min_free_mb a device gets no new file; if its size is unknown, the monitor's write test decides."""
    assert not cluster(HostState.ALIVE, DeviceState.ALIVE, Observed.WRITEABLE, free=99).should_get_new_files(1)
    assert cluster(HostState.ALIVE, DeviceState.ALIVE, Observed.WRITEABLE, free=100).should_get_new_files(1)
    assert cluster(HostState.ALIVE, DeviceState.ALIVE, Observed.WRITEABLE, free=None).should_get_new_files(1)


def test_unknown_devices_are_not_used() -> None:
    """A device without a row, or without its host, is neither read nor written."""
    orphan = Cluster(devices={1: Device(1, 9, DeviceState.ALIVE)}, observed={1: Observation(Observed.WRITEABLE)})
    for devid in (1, 2):
        assert not orphan.should_read_from(devid)
        assert not orphan.should_get_new_files(devid)
        assert not orphan.can_delete_from(devid)
        assert orphan.url(devid, 1) is None


def test_urls() -> None:
    """The get port, the alternative address by zone or by mask, and IPv6 follow docs/mogilefs.md 8.4."""
    host = Host(1, "h", HostState.ALIVE, "10.0.0.1", 7500, 7600, "192.168.0.1", "192.168.0.0/24")
    now = Cluster(
        hosts={1: host, 2: Host(2, "six", HostState.ALIVE, "::1")},
        devices={1: Device(1, 1, DeviceState.ALIVE), 2: Device(2, 2, DeviceState.ALIVE)},
    )
    assert now.url(1, 5) == "http://10.0.0.1:7500/dev1/0/000/000/0000000005.fid"
    assert now.url(1, 5, get=True) == "http://10.0.0.1:7600/dev1/0/000/000/0000000005.fid"
    assert now.url(1, 5, alternative=True) == "http://192.168.0.1:7500/dev1/0/000/000/0000000005.fid"
    assert now.url(1, 5, client_ip="192.168.0.77") == "http://192.168.0.1:7500/dev1/0/000/000/0000000005.fid"
    assert now.url(1, 5, client_ip="192.168.1.77") == "http://10.0.0.1:7500/dev1/0/000/000/0000000005.fid"
    assert now.url(2, 5) == "http://[::1]:7500/dev2/0/000/000/0000000005.fid"


def test_checksums_read_and_write() -> None:
    """`MD5:hex` and `SHA-1:hex` with the right length are parsed, nothing else is."""
    text = "MD5:" + "0f" * 16
    parsed = Checksum.parse(text)
    assert parsed == Checksum(HashType.MD5, b"\x0f" * 16)
    assert str(parsed) == text
    for wrong in ("MD5", "MD5:", "MD5:0f", "SHA-1:" + "0f" * 16, "CRC:" + "0f" * 16, "MD5:" + "zz" * 16, text + " "):
        assert Checksum.parse(wrong) is None
