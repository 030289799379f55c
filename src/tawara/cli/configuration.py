"""The configuration: its fields with defaults and descriptions, its sources, and the commented file.

The classes below are the only description. The file of a first run and docs/settings.md are rendered from them. Values
come from the file, the environment (`TAWARA_TRACKER_LISTEN=…`) and `--set tracker.listen=…`; later ones win.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_type_hints

import msgspec

from tawara.metadata.server import ServerLimits
from tawara.model import addresses
from tawara.model.applications import Application, number_applications
from tawara.model.cache_settings import CacheSettings
from tawara.model.errors import ConfigurationError
from tawara.model.limits import MOST_COPIES, Limits
from tawara.model.liveness import LivenessRules
from tawara.model.settings import suggestion
from tawara.wire.signatures import LONGEST

Doc = msgspec.Meta
MANY_YEARS = 10 * 365 * 86_400
"""The longest time that a field can be, in seconds."""
Connections = Annotated[int, Doc(gt=0, le=1_000_000)]
Few = Annotated[int, Doc(gt=0, le=1_000)]
"""Of database connections and worker slots, each of which costs memory."""
NotEmpty = Annotated[str, Doc(min_length=1)]


def unit(name: str) -> dict[str, str]:
    """The unit of a field's value, as `msgspec.Meta(extra=…)`."""
    return {"unit": name}


SECONDS = unit("seconds")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class StoreSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings shared by all components."""

    database: Annotated[
        str,
        Doc(
            description="URL of the database: sqlite:PATH (relative to this file), postgresql://USER@HOST/NAME, mysql://…."
            " HOST may be a list with commas; the first server that accepts writes is used."
        ),
    ] = "sqlite:tawara.db"
    password_file: Annotated[
        str, Doc(description='File with the password of the database; "" for none, or for TAWARA_DB_PASSWORD.')
    ] = ""
    keys_file: Annotated[
        NotEmpty,
        Doc(
            description="File with the installation's key, which opens the secrets of access keys and signs requests to"
            " storage nodes. Every machine of the store needs the same file, with mode 0600."
        ),
    ] = "keys.key"
    sign_urls: Annotated[
        bool,
        Doc(
            description="Whether requests to storage nodes, and the URLs that trackers give to clients, are signed with"
            " the installation's key; see node.require_signatures."
        ),
    ] = False
    signed_seconds: Annotated[
        int,
        Doc(gt=0, le=LONGEST, description="Time for which the signed URL that a client gets is valid.", extra=SECONDS),
    ] = 3600
    read_connections: Annotated[
        Few,
        Doc(description="Maximum connections of a process to a database server for reads.", extra=unit("connections")),
    ] = ServerLimits().readers
    write_connections: Annotated[
        Few,
        Doc(
            description="Maximum connections of a process for transactions that write."
            " If the server allows fewer in all, the process works with fewer.",
            extra=unit("connections"),
        ),
    ] = ServerLimits().writers
    beside_mogilefsd: Annotated[
        str,
        Doc(description='Host names, separated by commas, on which mogilefsd uses the same database; "" for none.'),
    ] = ""
    min_free_mb: Annotated[
        int, Doc(ge=0, le=1 << 40, description="A device with less free space gets no new files.", extra=unit("MiB"))
    ] = 100
    mindevcount: Annotated[
        int,
        Doc(
            ge=1,
            le=MOST_COPIES,
            description="Copies of a file in class `default` of a domain that has no row for that class.",
            extra=unit("copies"),
        ),
    ] = 2


class TrackerSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tracker: the MogileFS line protocol."""

    listen: Annotated[str, Doc(description="ADDRESS:PORT.")] = "127.0.0.1:7001"
    connections: Annotated[
        Connections,
        Doc(
            description="Maximum client connections. At the limit, a new connection replaces an idle one.",
            extra=unit("connections"),
        ),
    ] = 12_000
    idle: Annotated[
        int,
        Doc(
            ge=0,
            le=MANY_YEARS,
            description="A connection without a request for this long is closed; 0: never.",
            extra=SECONDS,
        ),
    ] = int(Limits().tracker_idle)


class NodeSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The storage node: the devices of this machine over HTTP."""

    listen: Annotated[
        str, Doc(description='ADDRESS:PORT of GET, PUT, DELETE; "" if another server, such as nginx, serves the files.')
    ] = "127.0.0.1:7500"
    side_channel: Annotated[str, Doc(description='ADDRESS:PORT for sizes, checksums and disk load; "" for none.')] = (
        "127.0.0.1:7501"
    )
    advertise: Annotated[
        str,
        Doc(
            description="Address of this machine that `tawara up` records for clients;"
            ' "" for that of `listen`. With `tawara node` the address is set by `tawara host add`.'
        ),
    ] = ""
    devices: Annotated[
        NotEmpty,
        Doc(description="Directory of the devices dev1, dev2, …, each a directory or the mount point of a disk."),
    ] = "devices"
    require_signatures: Annotated[
        Literal["none", "writes", "all"],
        Doc(
            description="Which requests must be signed by a process of the store (store.sign_urls): none, those that"
            " change something (PUT, DELETE, MKCOL, POST), or all. Set it when all processes sign."
        ),
    ] = "none"
    refuse_other_content: Annotated[
        bool,
        Doc(
            description="Whether a PUT of different content to an existing fid gets 409."
            " Set it to false while a mogilefsd repairs files on these devices: it overwrites them by PUT."
        ),
    ] = True


class ApplicationSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An application behind the gateway's nginx."""

    upstream: Annotated[str, Doc(description="HOST:PORT or unix:PATH of the application.")]
    domains: Annotated[
        tuple[str, ...], Doc(description='The domains whose files the application may send; ["*"] for all.')
    ]
    reproxy: Annotated[
        bool,
        Doc(
            description="Whether the application answers with X-Reproxy-URL, as behind Perlbal. Its answers then pass"
            " through the gateway's process."
        ),
    ] = False


class GatewaySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gateway: http://LISTEN/DOMAIN/KEY."""

    listen: Annotated[str, Doc(description="ADDRESS:PORT.")] = "127.0.0.1:7080"
    key_file: Annotated[NotEmpty, Doc(description="File with the secret key that PUT, DELETE and listing require.")] = (
        "secret.key"
    )
    public_reads: Annotated[bool, Doc(description="Whether GET and HEAD work without the key.")] = True
    reproxy: Annotated[
        bool,
        Doc(
            description="Whether a proxy that sends `X-Proxy-Capabilities: reproxy-file` (Perlbal) gets the URLs of the"
            " storage nodes instead of the file."
        ),
    ] = False
    processes: Annotated[
        int,
        Doc(
            ge=1,
            le=64,
            description="Processes that answer requests, behind one nginx. One more process runs nginx if there are"
            " several.",
            extra=unit("processes"),
        ),
    ] = 1
    tls_certificate: Annotated[
        str,
        Doc(
            description='PEM file with the TLS certificate and the intermediate ones; "" for HTTP without TLS.'
            " A changed file takes effect within seconds."
        ),
    ] = ""
    tls_key: Annotated[
        str, Doc(description="PEM file with the private key of `tls_certificate`, not readable by other users.")
    ] = ""
    trusted_proxies: Annotated[
        str,
        Doc(
            description="Addresses and networks, separated by commas, of front ends whose X-Forwarded-Host is the name"
            ' for which a client signed an S3 request, and names its bucket; "" for none.'
        ),
    ] = ""
    nginx: Annotated[
        Literal["bundled", "system", "off"],
        Doc(description="The nginx that transfers the bytes. With off, Python transfers them (correct, but slower)."),
    ] = "bundled"
    state: Annotated[
        NotEmpty,
        Doc(description="Directory of nginx's configuration, socket and error log. Created if it does not exist."),
    ] = "nginx"
    spool: Annotated[
        str,
        Doc(
            description="Directory in which nginx receives uploads, best on the file system of a device;"
            ' "" for a directory below `state`.'
        ),
    ] = ""
    balancers: Annotated[
        str,
        Doc(
            description="ADDRESS:PORT, usually port 7084, at which other nginx servers ask where files are, with an"
            ' access key: `tawara nginx-config`. "" for none.'
        ),
    ] = ""
    cache_mb: Annotated[
        int,
        Doc(
            ge=0,
            le=1 << 30,
            description="Most space below `state` for nginx's cache of files of other machines; 0: no cache.",
            extra=unit("MiB"),
        ),
    ] = 1024
    cache_file_mb: Annotated[
        int, Doc(ge=1, le=1024, description="Largest file that is cached. It is fetched whole.", extra=unit("MiB"))
    ] = 16
    cache_listen: Annotated[
        str,
        Doc(
            description="ADDRESS:PORT, usually port 7083, at which other gateways read this one's cache; one of"
            ' `cache_peers`. "" for none.'
        ),
    ] = ""
    cache_peers: Annotated[
        str,
        Doc(
            description="`cache_listen` of all gateways that share their caches, separated by commas; the same at each."
            " They need the same store.keys_file."
        ),
    ] = ""
    cache_hot: Annotated[
        int,
        Doc(
            ge=1,
            le=1_000_000,
            description="A file that a process reads this often is kept in the cache of every gateway.",
            extra=unit("reads a second"),
        ),
    ] = 100
    apps: Annotated[
        dict[str, ApplicationSection],
        Doc(
            description="Applications behind nginx, which sends the files that they name: docs/applications.md. NAME"
            ' is a host name, or a path such as "/photos/".'
        ),
    ] = msgspec.field(default_factory=dict)


class S3Section(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The S3 protocol: http://LISTEN/DOMAIN/KEY, with access keys. Part of the gateway; docs/s3.md."""

    listen: Annotated[
        str,
        Doc(description='ADDRESS:PORT; "" for none. The first run of `tawara up` sets 127.0.0.1:7081.'),
    ] = ""
    region: Annotated[
        str, Doc(description="The region in answers to clients. Signatures of any region are accepted.")
    ] = "us-east-1"
    hosts: Annotated[
        str,
        Doc(
            description="Names of this server, separated by commas. BUCKET.NAME names a bucket, and signatures for a"
            " name are accepted from front ends that change Host."
        ),
    ] = ""


class DavSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """WebDAV: http://LISTEN/DOMAIN/PATH, with access keys. Part of the gateway."""

    listen: Annotated[
        str,
        Doc(description='ADDRESS:PORT; "" for none. The first run of `tawara up` sets 127.0.0.1:7082.'),
    ] = ""


class WorkersSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The workers: replication, deletion and maintenance in the background."""

    replicate: Annotated[Few, Doc(description="Files copied at the same time.", extra=unit("files"))] = 8
    delete: Annotated[Few, Doc(description="Files deleted at the same time.", extra=unit("files"))] = 16


class MaintenanceSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When an unreachable device is presumed dead. Use the same values for all components of a store."""

    presume_dead: Annotated[
        int,
        Doc(
            ge=0,
            le=MANY_YEARS,
            description="A device that no process has reached for this long is presumed dead and its files are copied"
            " elsewhere; 0: never.",
            extra=SECONDS,
        ),
    ] = LivenessRules().after
    presume_dead_hosts: Annotated[
        float,
        Doc(
            ge=0,
            le=1,
            description="No further device is presumed dead while more than this share of the hosts is unreachable.",
        ),
    ] = LivenessRules().hosts
    presume_dead_bytes: Annotated[
        float,
        Doc(
            ge=0,
            le=1,
            description="No further device is presumed dead while more than this share of the stored bytes is on"
            " unreachable devices.",
        ),
    ] = LivenessRules().bytes


class MonitoringSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Metrics (/metrics) and probes (/livez, /readyz) over HTTP, a listener for each component."""

    tracker: Annotated[
        str, Doc(description='ADDRESS:PORT of the tracker\'s listener, usually 127.0.0.1:7601; "" for none.')
    ] = ""
    node: Annotated[
        str, Doc(description='ADDRESS:PORT of the storage node\'s listener, usually 127.0.0.1:7602; "" for none.')
    ] = ""
    gateway: Annotated[
        str, Doc(description='ADDRESS:PORT of the gateway\'s listener, usually 127.0.0.1:7603; "" for none.')
    ] = ""
    workers: Annotated[
        str, Doc(description='ADDRESS:PORT of the workers\' listener, usually 127.0.0.1:7604; "" for none.')
    ] = ""
    drain_seconds: Annotated[
        int,
        Doc(
            ge=0,
            le=3600,
            description="Time after SIGTERM or SIGINT for which a daemon still serves while /readyz reports 503, so"
            " that balancers take it out first. A second signal ends it.",
            extra=SECONDS,
        ),
    ] = 0


class LogSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log on standard error."""

    format: Annotated[Literal["text", "json"], Doc(description="Readable text, or one JSON object a line.")] = "text"
    level: Annotated[Literal["debug", "info", "warning", "error"], Doc(description="Lowest level that is logged.")] = (
        "info"
    )


class Configuration(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tawara's configuration."""

    store: StoreSection = StoreSection()
    tracker: TrackerSection = TrackerSection()
    node: NodeSection = NodeSection()
    gateway: GatewaySection = GatewaySection()
    s3: S3Section = S3Section()
    dav: DavSection = DavSection()
    workers: WorkersSection = WorkersSection()
    care: MaintenanceSection = MaintenanceSection()
    monitoring: MonitoringSection = MonitoringSection()
    log: LogSection = LogSection()


FILE = "tawara.toml"


@dataclass(frozen=True, slots=True)
class ConfigurationField:
    """A field of a section, as the file and docs/settings.md show it."""

    name: str
    description: str
    default: Any
    values: str
    """The values that are accepted, in words."""
    unit: str
    """Empty if the value has none."""


def describe_fields(section: type[Section]) -> list[ConfigurationField]:
    """The fields of `section`, in the order of the file."""
    hints = get_type_hints(section, include_extras=True)
    return [
        ConfigurationField(
            name=field.name,
            description=next((each.description for each in metas if each.description), ""),
            default={} if field.default is msgspec.NODEFAULT else field.default,
            values=_expected(hints[field.name]),
            unit=next((each.extra["unit"] for each in metas if each.extra), ""),
        )
        for field in msgspec.structs.fields(section)
        for metas in [[each for each in get_args(hints[field.name]) if isinstance(each, Doc)]]
    ]


_TABLES: Final = {
    "apps": ['# [gateway.apps."photos.example.org"]', '# upstream = "127.0.0.1:8000"', '# domains = ["photos"]']
}
"""Examples of the fields that are tables."""


def render(configuration: Configuration) -> str:
    """The commented file of `configuration`."""
    lines = [
        "# Tawara's configuration. Every setting is listed with its value; edit it and restart the daemon.",
        "# The environment (TAWARA_SECTION_NAME=…) overrides this file; --set section.name=… overrides both.",
    ]
    for section in msgspec.structs.fields(configuration):
        values = getattr(configuration, section.name)
        lines += ["", f"# {(type(values).__doc__ or '').strip()}", f"[{section.name}]"]
        for field in describe_fields(type(values)):
            one_of = f" {field.values.capitalize()}." if field.values.startswith("one of") else ""
            measured = f" Unit: {field.unit}." if field.unit else ""
            lines.append(f"# {field.description}{one_of}{measured}")
            if isinstance(value := getattr(values, field.name), dict):
                lines += _TABLES[field.name]
            else:
                lines.append(f"{field.name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def load(
    path: Path | None, *, environment: Mapping[str, str] = os.environ, settings: Iterable[str] = ()
) -> Configuration:
    """Merge the file at `path` (None: the defaults), the environment and `section.name=value` texts.

    Raises ConfigurationError, which names the setting.
    """
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: {error}") from error
    for name, given in raw.items():
        if not isinstance(given, dict):
            raise ConfigurationError(f"{path}: {name} = {given!r}: a setting must be in a section, such as [tracker]")
    for section in msgspec.structs.fields(Configuration):
        for field in msgspec.structs.fields(section.type):
            value = environment.get(f"TAWARA_{section.name}_{field.name}".upper())
            if value is not None:
                raw.setdefault(section.name, {})[field.name] = value
    for setting in settings:
        name, equals, value = setting.partition("=")
        section_name, dot, field_name = name.partition(".")
        if not equals or not dot:
            raise ConfigurationError(
                f"--set {setting}: write it as section.name=value, for example tracker.listen=:7001"
            )
        raw.setdefault(section_name, {})[field_name] = value
    return _read(raw, f"It is set in {path}, by TAWARA_SECTION_NAME or by --set.")


def _read(raw: Mapping[str, Mapping[str, Any]], hint: str) -> Configuration:
    sections = {each.name: each.type for each in msgspec.structs.fields(Configuration)}
    read: dict[str, Section] = {}
    for name, given in raw.items():
        if name not in sections:
            near = suggestion(name, sections) or f"; there are {', '.join(f'[{each}]' for each in sections)}"
            raise ConfigurationError(f"Unknown section [{name}]{near}", hint=hint)
        types = {each.name: each.type for each in msgspec.structs.fields(sections[name])}
        values = {}
        for field, value in given.items():
            if field not in types:
                every = [f"{section}.{each}" for section in sections for each in sections[section].__struct_fields__]
                same = [each for each in every if each.endswith(f".{field}")]
                near = suggestion(field, types) or suggestion(f"{name}.{field}", same or every)
                raise ConfigurationError(f"Unknown setting {name}.{field}{near}", hint=hint)
            try:
                values[field] = _convert(value, types[field])
                if values[field] != values[field]:
                    raise msgspec.ValidationError
            except msgspec.DecodeError as error:
                expected = str(error) if field in _TABLES else f"it must be {_expected(types[field])}"
                raise ConfigurationError(f"{name}.{field} = {value!r}: {expected}", hint=hint) from None
        read[name] = sections[name](**values)
    return msgspec.structs.replace(Configuration(), **read)


def _convert(value: Any, type_: Any) -> Any:
    """Convert a value from the file, or from a text; a table is JSON there. Raises msgspec.DecodeError."""
    if isinstance(value, str) and isinstance(msgspec.inspect.type_info(type_).type, msgspec.inspect.DictType):  # type: ignore[attr-defined]
        return msgspec.json.decode(value, type=type_)
    return msgspec.convert(value, type_, strict=False)


def _expected(type_: Any) -> str:
    """The values that a field accepts, in words."""
    match msgspec.inspect.type_info(type_):
        case msgspec.inspect.Metadata(type=described):
            pass
        case described:
            pass
    match described:
        case msgspec.inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType(ge=least, gt=above, le=most):
            lowest = above + 1 if above is not None else least
            if most is not None:
                return f"a whole number from {lowest} to {most}"
            return "a whole number" if lowest is None else f"a whole number, {lowest} or more"
        case msgspec.inspect.FloatType(ge=least, le=most):
            return f"a number from {least} to {most}"
        case msgspec.inspect.StrType(min_length=1):
            return "text, and not empty"
        case msgspec.inspect.DictType():
            return "tables, see below"
        case msgspec.inspect.VarTupleType():
            return "a list of names"
    return "text"


def cache(configuration: Configuration, secret: str) -> CacheSettings | None:
    """The cache of the gateway's nginx; `secret`: of all gateways of the store. Raises ConfigurationError."""
    gateway = configuration.gateway
    peers = [each.strip() for each in gateway.cache_peers.split(",") if each.strip()]
    if not gateway.cache_mb or gateway.nginx == "off":
        return None
    listen = ""
    if peers or gateway.cache_listen:
        listen = _host_and_port(gateway.cache_listen, "gateway.cache_listen")
        peers = [_host_and_port(each, "gateway.cache_peers") for each in peers]
        if listen not in peers:
            raise ConfigurationError(
                f"gateway.cache_listen = {gateway.cache_listen!r} is not one of gateway.cache_peers",
                hint="List the cache_listen of all gateways in cache_peers, this one's included.",
            )
        if not secret:
            raise ConfigurationError(
                f"Gateways share their caches by a secret from {configuration.store.keys_file}, which cannot be read",
                hint="Copy the key file of the store to this machine; see store.keys_file.",
            )
    return CacheSettings(
        size=gateway.cache_mb << 20,
        file=gateway.cache_file_mb << 20,
        listen=listen,
        peers=peers,
        secret=secret,
        hot_rate=gateway.cache_hot,
    )


def _host_and_port(text: str, setting: str) -> str:
    """An IP address and port as nginx writes them. Raises ConfigurationError."""
    host, port = address(text, setting)
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigurationError(f"{setting} = {text!r}: write the IP address, not a name") from None
    if ip.is_unspecified or not port:
        raise ConfigurationError(f"{setting} = {text!r}: write the address and port at which the others reach it")
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def applications(configuration: Configuration) -> list[Application]:
    """The applications behind the gateway. Raises ConfigurationError."""
    wanted = [(name, each.upstream, each.domains, each.reproxy) for name, each in configuration.gateway.apps.items()]
    try:
        found = number_applications(wanted)
    except ValueError as error:
        raise ConfigurationError(f"gateway.apps: {error}") from None
    if found and configuration.gateway.nginx == "off":
        raise ConfigurationError('gateway.apps needs nginx: set gateway.nginx to "bundled" or "system"')
    return found


def address(text: str, setting: str) -> tuple[str, int]:
    """`127.0.0.1:7001` or `[::1]:7001` as (host, port); no host means loopback. Raises ConfigurationError."""
    try:
        return addresses.listening(text)
    except ValueError as error:
        raise ConfigurationError(f"{setting} = {text!r}: {error}") from None


def advertised(node: NodeSection) -> str:
    """The address of the storage node that clients use. Raises ConfigurationError if it is invalid or unknown."""
    if node.advertise:
        try:
            return addresses.reachable(node.advertise)
        except ValueError as error:
            raise ConfigurationError(f"node.advertise = {node.advertise!r} {error}") from None
    host, _ = address(node.listen, "node.listen")
    if addresses.is_wildcard(host):
        raise ConfigurationError(
            f"node.listen = {node.listen!r} listens on every address of this machine; clients need a specific one",
            hint="Set node.advertise to the address under which others reach this machine.",
        )
    return host
