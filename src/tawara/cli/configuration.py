"""The configuration: what can be set, what it is when nobody sets it, and the file that explains it.

The classes below are the only description. The commented file of a first run is rendered from them, and what a file,
the environment (`TAWARA_TRACKER_LISTEN=…`) or `--set tracker.listen=…` gives is checked against them; later ones win.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tawara.metadata.server import ServerLimits
from tawara.model import addresses
from tawara.model.errors import ConfigurationError
from tawara.model.limits import Limits
from tawara.model.liveness import LivenessRules
from tawara.model.settings import suggestion

Doc = msgspec.Meta
Positive = Annotated[int, Doc(gt=0)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class StoreSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all parts share."""

    database: Annotated[
        str,
        Doc(
            description="Where the names are kept: sqlite:PATH (relative to this file), postgresql://USER@HOST/NAME, mysql://…."
            " HOST may be several, with commas; the first that can be written to is used."
        ),
    ] = "sqlite:tawara.db"
    password_file: Annotated[
        str, Doc(description='File with the password of the database; "" for none, or TAWARA_DB_PASSWORD.')
    ] = ""
    read_connections: Annotated[
        Positive, Doc(description="Most connections of a process to a database server for look-ups.")
    ] = ServerLimits().readers
    write_connections: Annotated[
        Positive, Doc(description="Most for changes. If the server allows fewer in all, a process makes do with them.")
    ] = ServerLimits().writers
    beside_mogilefsd: Annotated[
        str, Doc(description='Host names, with commas, where mogilefsd runs on this database, too; "" for none.')
    ] = ""
    min_free_mb: Annotated[int, Doc(ge=0, description="A device with less free space (MiB) gets no new files.")] = 100
    mindevcount: Annotated[
        int, Doc(ge=1, description="Copies of a file whose domain has no class row of its own for `default`.")
    ] = 2


class TrackerSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Answers the MogileFS line protocol."""

    listen: Annotated[str, Doc(description="ADDRESS:PORT.")] = "127.0.0.1:7001"
    connections: Annotated[Positive, Doc(description="Most connected clients; an idle one makes room.")] = 12_000
    idle: Annotated[
        int, Doc(ge=0, description="Seconds after which a connection on which nothing was asked is closed; 0: never.")
    ] = int(Limits().tracker_idle)


class NodeSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The storage node: this machine's devices over HTTP."""

    listen: Annotated[
        str, Doc(description='ADDRESS:PORT of GET, PUT, DELETE; "" if another server, such as nginx, does that.')
    ] = "127.0.0.1:7500"
    side_channel: Annotated[str, Doc(description='ADDRESS:PORT of sizes, checksums and disk load; "" for none.')] = (
        "127.0.0.1:7501"
    )
    advertise: Annotated[
        str,
        Doc(
            description="Address of this machine that `tawara up` tells clients;"
            ' "" for the one listened on. Of `tawara node` they are told by `tawara host add`.'
        ),
    ] = ""
    devices: Annotated[
        str, Doc(description="Directory of the devices dev1, dev2, …, each a directory or the mount point of a disk.")
    ] = "devices"
    refuse_other_content: Annotated[
        bool,
        Doc(
            description="Whether a PUT of other content under a fid that is there gets 409."
            " Set it to false where mogilefsd repairs files on these devices: it replaces them by PUT."
        ),
    ] = True


class GatewaySection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The HTTP door: http://LISTEN/DOMAIN/KEY."""

    listen: Annotated[str, Doc(description="ADDRESS:PORT.")] = "127.0.0.1:7080"
    key_file: Annotated[str, Doc(description="File with the secret key that PUT and DELETE need.")] = "secret.key"
    public_reads: Annotated[bool, Doc(description="Whether GET needs no key.")] = True
    nginx: Annotated[
        Literal["bundled", "system", "off"],
        Doc(description="Who moves the bytes: our nginx, the machine's, or Python (correct, only slower)."),
    ] = "bundled"
    state: Annotated[
        str,
        Doc(description="Directory of nginx's own files: its configuration, socket and error log. Made if need be."),
    ] = "nginx"
    spool: Annotated[
        str,
        Doc(
            description="Directory in which nginx receives uploads, best on the file system of a device; "
            '"" for that of state.'
        ),
    ] = ""


class WorkersSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Background care."""

    replicate: Annotated[Positive, Doc(description="Files copied at the same time.")] = 8
    delete: Annotated[Positive, Doc(description="Files deleted at the same time.")] = 16


class MaintenanceSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the store does by itself when devices stop answering; the same for all parts of one store."""

    presume_dead: Annotated[
        int,
        Doc(
            ge=0,
            description="Seconds after which a device that nobody sees is presumed dead, its files copied; 0: never.",
        ),
    ] = LivenessRules().after
    presume_dead_hosts: Annotated[
        float,
        Doc(ge=0, le=1, description="No more is presumed dead while more than this share of the hosts is absent."),
    ] = LivenessRules().hosts
    presume_dead_bytes: Annotated[
        float,
        Doc(ge=0, le=1, description="No more is presumed dead while more than this share of the bytes is absent."),
    ] = LivenessRules().bytes


class LogSection(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is said on standard error."""

    format: Annotated[Literal["text", "json"], Doc(description="For people, or one JSON object a line.")] = "text"
    level: Annotated[Literal["debug", "info", "warning", "error"], Doc(description="The least that is said.")] = "info"


class Configuration(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tawara's configuration."""

    store: StoreSection = StoreSection()
    tracker: TrackerSection = TrackerSection()
    node: NodeSection = NodeSection()
    gateway: GatewaySection = GatewaySection()
    workers: WorkersSection = WorkersSection()
    care: MaintenanceSection = MaintenanceSection()
    log: LogSection = LogSection()


FILE = "tawara.toml"


def render(configuration: Configuration) -> str:
    """The commented file of `configuration`."""
    lines = [
        "# Tawara's configuration. Every setting stands here with its value; change what you like and start again.",
        "# A setting is overridden by the environment, TAWARA_SECTION_NAME=…, and that by --set section.name=….",
    ]
    for section in msgspec.structs.fields(configuration):
        values = getattr(configuration, section.name)
        lines += ["", f"# {(type(values).__doc__ or '').strip()}", f"[{section.name}]"]
        described_section = msgspec.inspect.type_info(type(values))
        assert isinstance(described_section, msgspec.inspect.StructType)
        for described in described_section.fields:
            lines.append(f"# {_description(described.type)}")
            lines.append(f"{described.name} = {json.dumps(getattr(values, described.name))}")
    return "\n".join(lines) + "\n"


def _description(described: msgspec.inspect.Type) -> str:
    extra = getattr(described, "extra_json_schema", None) or {}
    description: str = extra.get("description", "")
    if isinstance(described, msgspec.inspect.LiteralType):
        description += f" One of: {', '.join(map(str, described.values))}."
    return description


def load(
    path: Path | None, *, environment: Mapping[str, str] = os.environ, settings: Iterable[str] = ()
) -> Configuration:
    """The configuration of the file at `path` (defaults without one), the environment and `section.name=value` texts.

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
            raise ConfigurationError(f"{path}: {name} = {given!r}: a setting stands in a section, such as [tracker]")
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
            raise ConfigurationError(f"There is no section [{name}]{suggestion(name, sections)}", hint=hint)
        types = {each.name: each.type for each in msgspec.structs.fields(sections[name])}
        values = {}
        for field, value in given.items():
            if field not in types:
                every = [f"{section}.{each}" for section in sections for each in sections[section].__struct_fields__]
                same = [each for each in every if each.endswith(f".{field}")]
                near = suggestion(field, types) or suggestion(f"{name}.{field}", same or every)
                raise ConfigurationError(f"There is no setting {name}.{field}{near}", hint=hint)
            try:
                values[field] = msgspec.convert(value, types[field], strict=False)
            except msgspec.ValidationError:
                expected = f"it must be {_expected(types[field])}"
                raise ConfigurationError(f"{name}.{field} = {value!r}: {expected}", hint=hint) from None
        read[name] = sections[name](**values)
    return msgspec.structs.replace(Configuration(), **read)


def _expected(type_: Any) -> str:
    """What values a setting may have, in words."""
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
        case msgspec.inspect.IntType(ge=least, gt=above):
            lowest = above + 1 if above is not None else least
            return "a whole number" if lowest is None else f"a whole number, {lowest} or more"
        case msgspec.inspect.FloatType(ge=least, le=most):
            return f"a number from {least} to {most}"
    return "text"


def address(text: str, setting: str) -> tuple[str, int]:
    """`127.0.0.1:7001` or `[::1]:7001` as (host, port); no host means loopback. Raises ConfigurationError."""
    try:
        return addresses.listening(text)
    except ValueError as error:
        raise ConfigurationError(f"{setting} = {text!r}: {error}") from None


def advertised(node: NodeSection) -> str:
    """The address of a storage node that clients are told. Raises ConfigurationError if it is wrong or unknown."""
    if node.advertise:
        try:
            return addresses.reachable(node.advertise)
        except ValueError as error:
            raise ConfigurationError(f"node.advertise = {node.advertise!r} {error}") from None
    host, _ = address(node.listen, "node.listen")
    if addresses.is_wildcard(host):
        raise ConfigurationError(
            f"node.listen = {node.listen!r} means every address of this machine, and clients need to be told one",
            hint="Set node.advertise to the address under which others reach this machine.",
        )
    return host
