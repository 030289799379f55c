"""`tawara up`: the whole store on one machine, in the foreground."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from tawara.cli import first_run, log, readiness
from tawara.cli.assembly import (
    S3,
    WEBDAV,
    Component,
    Running,
    gateway_process,
    import_component,
    monitoring_address,
    running,
    share_gateway,
    share_monitoring,
    without_drain,
)
from tawara.cli.configuration import FILE, Configuration, load
from tawara.cli.first_key import CREDENTIALS, NETRC, FirstKey
from tawara.cli.foreground import only_one, raise_descriptors, run_until_signal
from tawara.cli.processes import Family, Listening, Ready
from tawara.cli.reloading import Reloader, survive
from tawara.gateway.process import GatewayProcess

if TYPE_CHECKING:
    from tawara.monitoring.server import ProcessGroup


def up(
    directory: Annotated[Path, Parameter(show_default=True)] = Path("tawara-store"),
    /,
    *,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    nginx: Annotated[bool, Parameter(negative="--no-nginx")] = True,
    json: Annotated[bool, Parameter(negative="")] = False,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative="")] = False,
) -> int:
    """Run a store on this machine: tracker, storage node, workers and gateway, until Ctrl-C.

    The first run creates DIRECTORY: the commented configuration tawara.toml, the database, four devices, the domain
    "files", the secret key for uploads over HTTP, and an access key for S3 and WebDAV. All components listen on this
    machine only.

    For example:

        tawara up
        tawara up /srv/tawara --set gateway.listen=127.0.0.1:8080

    Parameters
    ----------
    directory
        Directory of the store.
    settings
        A setting for this run, section.name=value; may be repeated.
    nginx
        Transfer bytes by nginx; without it the gateway streams them, which is slower.
    json
        Print JSON, one object a line.
    verbose
        Log more.
    """
    directory = directory.absolute()
    survive()
    first_run.prepare_directory(directory, list(settings))

    def read() -> Configuration:
        return _with_flags(load(directory / FILE, settings=settings), nginx=nginx, json=json, verbose=verbose)

    configuration = read()
    log.configure(configuration.log)
    reload = Reloader(read, configuration).reload
    with only_one(directory):
        if configuration.gateway.processes > 1:
            return _run_many(configuration, directory, reload, json=json)
        run_until_signal(_up(configuration, directory, json=json), reload)
    return 0


def _run_many(configuration: Configuration, directory: Path, reload: Callable[[], None], *, json: bool) -> int:
    """Run all components in the first process, and further processes of the gateway."""
    raise_descriptors()
    for component in Component:
        import_component(component)
    count = configuration.gateway.processes
    shares = share_gateway(configuration, directory, count)
    front = len(shares) > count
    monitored = next((each for each in Component if monitoring_address(configuration, each)), Component.TRACKER)
    _, groups = share_monitoring(configuration, monitored, shares, only_first=True)

    def serve(number: int, listening: Listening, ready: Ready) -> None:
        process = gateway_process(configuration, number)
        if number:
            own = without_drain(configuration) if front else configuration
            run_until_signal(_more(own, directory, listening, process, groups[number], ready), reload)
        else:
            store = _up(configuration, directory, listening, process, groups[number], ready, json=json)
            run_until_signal(store, reload)

    return Family(
        shares,
        serve,
        lambda: None,
        reload,
        first_stops_first=front,
        drain=configuration.monitoring.drain_seconds,
    ).run()


def _with_flags(configuration: Configuration, *, nginx: bool, json: bool, verbose: bool) -> Configuration:
    change = msgspec.structs.replace
    if not nginx:
        configuration = change(configuration, gateway=change(configuration.gateway, nginx="off"))
    if json:
        configuration = change(configuration, log=change(configuration.log, format="json"))
    if verbose:
        configuration = change(configuration, log=change(configuration.log, level="debug"))
    return configuration


@asynccontextmanager
async def _more(
    configuration: Configuration,
    directory: Path,
    listening: Listening,
    process: GatewayProcess | None,
    group: ProcessGroup | None,
    ready: Ready,
) -> AsyncIterator[Running]:
    parts = [Component.GATEWAY]
    async with running(configuration, directory, parts, listening=listening, process=process, group=group) as store:
        ready()
        yield store


@asynccontextmanager
async def _up(
    configuration: Configuration,
    directory: Path,
    listening: Listening | None = None,
    process: GatewayProcess | None = None,
    group: ProcessGroup | None = None,
    ready: Ready = lambda: None,
    *,
    json: bool,
) -> AsyncIterator[Running]:
    async with running(
        configuration,
        directory,
        frozenset(Component),
        one_machine=True,
        listening=listening,
        process=process,
        group=group,
    ) as store:
        ready()
        if process is not None:
            from tawara.gateway.nginx import wait_for_processes

            await wait_for_processes(directory / configuration.gateway.state, process.count)
        readiness.announce(store, "" if json else _first_steps(store), as_json=json)
        yield store


def _first_steps(store: Running) -> str:
    """Return the components with their addresses, and commands to try."""
    where = store.addresses
    key = shlex.quote(str(store.directory / store.configuration.gateway.key_file))
    tracker = "" if where["tracker"] == "127.0.0.1:7001" else f" --tracker {where['tracker']}"
    scheme = "https" if store.configuration.gateway.tls_certificate else "http"
    url = f"{scheme}://{where['gateway']}/{first_run.DOMAIN}/hello.txt"
    width = max(map(len, where))
    lines = [f"Tawara is up; its files are in {store.directory}", ""]
    lines += [f"  {name:<{width}}  {address}" for name, address in where.items()]
    lines += [
        "",
        "Try, in another terminal:",
        "",
        f"  echo hello | {_program()} put - {first_run.DOMAIN}/hello.txt{tracker}",
        f"  curl {url}",
        f'  curl -H "Authorization: Bearer $(cat {key})" -T FILE {url.removesuffix("hello.txt")}',
        *(line for each in store.first_keys for line in _further_steps(store, each, scheme)),
        "",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def _further_steps(store: Running, key: FirstKey, scheme: str) -> list[str]:
    """Return a command for S3 and one for WebDAV with the store's first access key, and where that is.

    The secret itself is printed by the first run alone, and only to a terminal: other outputs are logs.
    """
    where, lines = store.addresses, []
    credentials, netrc = (shlex.quote(str(store.directory / name)) for name in (CREDENTIALS, NETRC))
    if S3 in where:
        aws = f"AWS_SHARED_CREDENTIALS_FILE={credentials} aws --endpoint-url {scheme}://{where[S3]}"
        lines.append(f"  {aws} s3 cp FILE s3://{first_run.DOMAIN}/")
    if WEBDAV in where:
        lines.append(f"  curl --netrc-file {netrc} -T FILE {scheme}://{where[WEBDAV]}/{first_run.DOMAIN}/")
    shown = f", secret {key.secret}" if key.is_new and sys.stdout.isatty() else ""
    return [*lines, "", f"The access key of S3 and WebDAV, id {key.id}{shown}, is in {credentials}"]


def _program() -> str:
    """Return the program as it was called, so that printed commands can be pasted."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tawara"
    return shlex.quote(sys.argv[0]) if "/" in sys.argv[0] else "tawara"
