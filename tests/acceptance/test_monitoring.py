"""Metrics, probes and health codes of real daemons."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tawara import cli
from tawara.model.cluster import DeviceState
from tawara.model.health_codes import HISTORY_PREFIX, HealthCode, History
from tawara.monitoring.health_recorder import HealthRecorder, save_histories
from tests.acceptance.cluster import cluster, run
from tests.acceptance.daemons import SeparateDaemons, separate_daemons
from tests.acceptance.store import free_ports

COMPONENTS = ("tracker", "node", "gateway", "workers")


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def fetch(address: str, path: str) -> tuple[int, str]:
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[SeparateDaemons, dict[str, str]]]:
    """Separate daemons, not started, with the address of the monitoring listener of each component."""
    with separate_daemons(tmp_path, "sqlite:tawara.db", nodes=1) as made:
        places = {name: f"127.0.0.1:{port}" for name, port in zip(COMPONENTS, free_ports(4), strict=True)}
        with (tmp_path / "tawara.toml").open("a") as configuration:
            lines = [f"{name} = {json.dumps(place)}" for name, place in places.items()]
            configuration.write("\n".join(["[monitoring]", *lines, "drain_seconds = 60", ""]))
        yield made, places


def test_each_daemon_has_metrics_and_probes(store: tuple[SeparateDaemons, dict[str, str]]) -> None:
    """Each daemon is alive and ready and counts its requests; the samples of several processes are labelled."""
    daemons, places = store
    daemons.daemons["tracker"].start()
    for line in (
        "create_domain domain=d",
        f"create_host host=h1&ip=127.0.0.1&port={daemons.node_port}&status=alive",
        "create_device devid=1&hostname=h1",
    ):
        assert daemons.ask(line.encode()).startswith(b"OK")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: daemons.daemons[name].start(), ("node1", "workers", "gateway")))
    for address in places.values():
        until(lambda address=address: fetch(address, "/readyz") == (200, "ok\n"))  # type: ignore[misc]
        assert fetch(address, "/livez") == (200, "ok\n")
        assert fetch(address, "/")[0] == 404
    texts = {name: fetch(address, "/metrics")[1] for name, address in places.items()}
    assert all("process_start_time_seconds" in text and "tawara_build_info" in text for text in texts.values())
    assert 'tawara_tracker_requests_total{command="create_domain",process="' in texts["tracker"]
    assert 'tawara_ready{process="0"} 1.0' in texts["tracker"]
    assert 'tawara_ready{process="1"} 1.0' in texts["tracker"]
    assert 'tawara_node_device_usable{device="dev2"} 1.0' in texts["node"]
    assert "tawara_gateway_requests_total" in texts["gateway"]
    assert 'tawara_worker_done_total{work="replicate"}' in texts["workers"]
    status, text = fetch(places["tracker"], "/metrics?scope=store")
    assert status == 200, text
    assert 'tawara_store_device_up{device="dev1",host="h1"}' in text
    assert fetch(places["node"], "/metrics?scope=store")[0] == 503


def test_a_daemon_that_stops_is_taken_out_first(store: tuple[SeparateDaemons, dict[str, str]]) -> None:
    """After SIGTERM a daemon is not ready and serves on, until the time has passed or a second signal arrives."""
    daemons, places = store
    daemons.daemons["node1"].start()
    node = daemons.daemons["node1"].process
    assert node is not None
    node.send_signal(signal.SIGTERM)
    until(lambda: fetch(places["node"], "/readyz") == (503, "stopping\n"))
    assert fetch(daemons.node(1), "/dev1/usage")[0] == 200
    node.send_signal(signal.SIGTERM)
    assert node.wait(30) == 0


def test_health_codes_and_mutes(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    """`tawara health` exits with 1 while there is a problem that is not muted; the code stays visible."""

    def said(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        return cli.main(["health", *words, "--tracker", started.trackers]), capsys.readouterr().out

    with run(tmp_path_factory.mktemp("store"), hosts=1) as started:
        until(lambda: said() == (0, "All is well.\n"))
        assert cli.main(["device", "change", "2", "--state", "down", "--tracker", started.trackers]) == 0
        code, text = said()
        assert code == 1
        assert "DEVICE_DOWN warning\n    Device dev2 on h1 is down.\n" in text
        assert said("mute", "DEVICE_DOWN", "2h")[0] == 0
        code, text = said("--json")
        (told,) = map(json.loads, text.splitlines())
        assert (code, told["code"], told["severity"]) == (0, "DEVICE_DOWN", "warning")
        assert told["muted_until"] > 0
        assert "DEVICE_DOWN warning, muted; the mute ends in 2 hours" in said()[1]
        assert said("unmute", "DEVICE_DOWN")[0] == 0
        assert said()[0] == 1
        assert said("mute", "DEVICE_DWN", "2h")[0] == 2
        assert said("mute", "DEVICE_DOWN", "soon")[0] == 2


async def test_the_beginning_of_a_finding_is_recorded(tmp_path: Path) -> None:
    """A tracker records since when a finding lasts, and forgets it when it has ended."""
    async with cluster(tmp_path, hosts=1, devices=1) as store, store.client() as client:
        recorder = HealthRecorder(store.metadata, store.servers[0].address)
        await client.set_device_state("h1", 1, DeviceState.DOWN)
        await recorder.record_now()
        found = (await client.settings())[f"{HISTORY_PREFIX}{HealthCode.NO_DEVICE_WRITEABLE}"]
        history = History.parse(found)
        assert history is not None
        await store.metadata.write(save_histories, (), now=history.seen + 3600)
        assert not [name for name in await client.settings() if name.startswith(HISTORY_PREFIX)]
