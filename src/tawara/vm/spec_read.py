"""Reads a NAME.toml into a Guest: every mistake is found in one pass and reported with its line and remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tawara.vm import spec
from tawara.vm.bases import DEFAULT, RECIPES, bases_that
from tawara.vm.bases.recipe import Recipe
from tawara.vm.errors import Mistake, SpecError
from tawara.vm.spec_fields import Fields
from tawara.vm.spec_network import judge_networks, judge_published, read_networks, read_nics, read_published

NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
FQDN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
VERSION = re.compile(r"[0-9][A-Za-z0-9.+~]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
KEY = re.compile(r"(ssh-(rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]+( .*)?")


def read_guest(text: str, path: str, default_name: str, folder: Path | None = None) -> spec.Guest:
    """Return the guest that this text describes. Raises SpecError with every mistake in it."""
    mistakes: list[Mistake] = []
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(path, [syntax_mistake(text, error)]) from error
    guest = guest_from_fields(Fields.of_text(text, document, mistakes, folder), default_name)
    if mistakes or guest is None:
        raise SpecError(path, mistakes)
    return guest


def guest_from_fields(
    top: Fields,
    default_name: str,
    networks: Mapping[str, spec.Network] | None = None,
    *,
    whole: bool = True,
    cluster: str = "",
) -> spec.Guest | None:
    """Read one guest's fields; mistakes are added to the fields' list, and the result is None if nothing sensible is
    left. Incomplete fields, such as a cluster's role, are not checked for contradictions. The cards of a cluster's
    guest are assigned later, so its published ports are checked then."""
    name = top.text("name", default_name, NAME, "a short name: a letter, then letters, digits and -")
    fqdn = top.text("fqdn", f"{name}.example", FQDN, "a host name in lower case, such as web.example")
    known = dict(networks if networks is not None else spec.CLASSIC_NETWORKS) | read_networks(top)
    image = _read_image(top)
    base = RECIPES.get(str(top.values.get("base", DEFAULT)), RECIPES[DEFAULT])
    draft = spec.Guest(
        cluster=cluster,
        name=name,
        fqdn=fqdn,
        version=top.text("version", "1", VERSION, 'a version that begins with a digit, such as "1.0"'),
        base=top.choice("base", DEFAULT, tuple(RECIPES)),
        image=image,
        memory=top.size("memory", 256 * spec.MiB, least=32 * spec.MiB),
        cpus=top.number("cpus", 1, least=1, most=255),
        packages=top.texts("packages", PACKAGE, "a Debian package's name"),
        commands=top.texts("commands", re.compile(r"(?s).+"), "a shell command"),
        services=top.texts("services", re.compile(r"[A-Za-z0-9@_.-]+"), "a service's name"),
        authorized_keys=top.texts("authorized_keys", KEY, "a public key's line, such as the text of id_ed25519.pub"),
        console=top.choice("console", "serial", ("serial", "vnc")),
        order=top.number("order", 50, least=0, most=99),
        description=top.text("description", "", re.compile(r".{0,200}"), "one line"),
        files=_read_files(top),
        shares=_read_shares(top),
        data=_read_data(top),
    )
    disk = top.table("disk")
    draft = replace(
        draft,
        disk=disk.size("size", 0, least=spec.MiB) if image else disk.size("size", 5 * spec.GiB, least=5 * spec.GiB),
        bus=disk.choice("bus", "ide" if image else base.buses[0], spec.BUSES),
        nics=read_nics(top, fqdn, known, "e1000" if image else base.nic_models[0]),
        published=read_published(top, known),
    )
    disk.nothing_else()
    if whole:
        _judge_together(top, draft)
    top.nothing_else()
    return draft


def _read_image(top: Fields) -> spec.ForeignImage | None:
    digest = top.text("image_sha256", "", None, "")
    identity: spec.ImageIdentity = top.choice("image_identity", "ours", ("ours", "kept"))
    host_key = top.text("image_host_key", "", re.compile(f"|{KEY.pattern}"), "the text of its ssh_host_*_key.pub")
    augeas = top.texts("augeas", re.compile(r".+"), 'an augtool command: "set /files/etc/hosts/1/canonical here"')
    if not top.has("image"):
        for key in ("image_sha256", "image_identity", "image_host_key", "augeas"):
            if top.has(key):
                top.mistake(key, "this is about a foreign image, and none is given", 'Write image = "a/disk.qcow2".')
        return None
    path = top.folder / top.text("image", "", re.compile(r".+"), "the path of a disk image")
    if not path.is_file():
        top.mistake("image", f"there is no file {path}", "Paths are relative to the description's folder.")
    if not SHA256.fullmatch(digest):
        where = "image_sha256" if top.has("image_sha256") else "image"
        remedy = f'Write image_sha256 = "…", the 64 hex digits that sha256sum {path.name} prints.'
        top.mistake(where, "a foreign image needs its checksum", remedy)
    if host_key and identity == "ours":
        top.mistake(
            "image_host_key", "the image gets a host key of ours", 'Leave it out, or write image_identity = "kept".'
        )
    return spec.ForeignImage(str(path), digest, identity, host_key, augeas)


def _read_files(top: Fields) -> tuple[spec.File, ...]:
    found: list[spec.File] = []
    for fields in top.tables("file"):
        path = fields.text("path", "", None, "")
        if not _is_clean_absolute(path):
            fields.mistake("path", f"{path!r} is no absolute path", "Write it like /etc/motd.")
        mode = fields.text("mode", "0644", re.compile(r"0?[0-7]{3,4}"), 'octal digits, such as "0755"')
        for name, content, bits in fields.content():
            if f"{path}{name}" in {file.path for file in found}:
                fields.mistake("path", f"{path}{name} is given twice", "Take one of them out.")
            found.append(spec.File(f"{path}{name}", content, bits or int(mode, 8)))
        fields.nothing_else()
    return tuple(found)


def _read_shares(top: Fields) -> tuple[spec.Share, ...]:
    found: list[spec.Share] = []
    for fields in top.tables("share"):
        source, target = (fields.text(end, "", None, "") for end in ("source", "target"))
        for end, path in (("source", source), ("target", target)):
            if not _is_clean_absolute(path):
                fields.mistake(end, f"{path!r} is no absolute path", "Write it like /srv/photos.")
        kind: spec.ShareKind = fields.choice("kind", "virtiofs", ("virtiofs", "9p"))
        fields.nothing_else()
        if target in {share.target for share in found}:
            fields.mistake("target", f"{target} is given twice", "Show each directory in a place of its own.")
        found.append(spec.Share(source, target, kind))
    return tuple(found)


def _read_data(top: Fields) -> spec.Data | None:
    if not top.has("data"):
        return None
    fields = top.table("data")
    mount = fields.text("mount", "/data", None, "")
    if not _is_clean_absolute(mount):
        fields.mistake("mount", f"{mount!r} is no absolute path", "Write it like /data.")
    size = fields.size("size", spec.GiB, least=16 * spec.MiB)
    fields.nothing_else()
    return spec.Data(size, mount)


def _judge_together(top: Fields, guest: spec.Guest) -> None:
    """Report contradictions between fields."""
    judge_networks(top, guest)
    if not guest.cluster:
        judge_published(top, guest)
    if guest.data and guest.data.mount in {share.target for share in guest.shares}:
        top.mistake("share", f"{guest.data.mount} is where the data disk is", "Show the directory in another place.")
    if guest.image is not None:
        if top.has("base"):
            top.mistake("base", "a guest stands on one of our bases or on an image", "Take base or image out.")
        if guest.packages:
            top.mistake(
                "packages", "nothing can be fetched into a foreign image", f"Use base = {bases_that('installs')}."
            )
        if guest.services:
            remedy = 'Write commands = ["systemctl enable NAME"].'
            top.mistake("services", "how a foreign image starts services is not known", remedy)
        return
    if any(share.kind == "9p" for share in guest.shares):
        top.mistake("share", "the kernels of our bases lack 9p", 'Use kind = "virtiofs".')
    _judge_base(top, guest, RECIPES[guest.base])


def _judge_base(top: Fields, guest: spec.Guest, base: Recipe) -> None:
    """Note what the guest asks of its base that this cannot do."""
    if guest.shares and not base.shares:
        remedy = f"Use base = {bases_that('shares')}, or take them out."
        top.mistake("share", f"the {base.name} base knows no shared directories", remedy)
    if guest.bus not in base.buses:
        top.mistake("disk", f"the {base.name} base has no {guest.bus} disks", f"Use a bus of {', '.join(base.buses)}.")
    for model in sorted({nic.model for nic in guest.nics} - set(base.nic_models)):
        remedy = f"Use a model of {', '.join(base.nic_models)}."
        top.mistake("nic", f"the {base.name} base has no {model} cards", remedy)
    if guest.packages and not base.installs:
        remedy = f"Use base = {bases_that('installs')}."
        top.mistake("packages", f"the {base.name} base has no package manager", remedy)
    if guest.disk != 5 * spec.GiB and not base.grows:
        remedy = "Leave the size out; add a [data] disk."
        top.mistake("disk", f"the {base.name} base cannot grow its 5G file system", remedy)


def _is_clean_absolute(path: str) -> bool:
    """Whether the path is absolute, without . or .., and safe for the line-based tools that will read it."""
    pure = PurePosixPath(path)
    return pure.is_absolute() and ".." not in pure.parts and str(pure) == path and not re.search(r"[\s\"'\\]", path)


def syntax_mistake(text: str, error: tomllib.TOMLDecodeError) -> Mistake:
    """Return tomllib's error with its line."""
    at = re.search(r"at line (\d+)", str(error))
    line = int(at[1]) if at else len(text.splitlines()) or 1
    what = re.sub(r" \(at .*\)$", "", str(error))
    return Mistake(line, "TOML", what, "The rest is read once the file is valid TOML.")
