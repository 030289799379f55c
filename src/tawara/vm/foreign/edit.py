"""The changes to a foreign image: its identity, authorised keys, the author's files. Pure: trees in, changes out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tawara.vm import tree
from tawara.vm.bases.recipe import HostKey, mount_points, mounts
from tawara.vm.foreign.image import ImageContents
from tawara.vm.hostkey import dropbear_host_key
from tawara.vm.identity import machine_id
from tawara.vm.spec import Guest

Changes = tuple[dict[str, tree.Node], list[str]]
"""What is written, and which paths are removed."""

_OLD_KEYS = re.compile(r"etc/ssh/ssh_host_\w+_key(\.pub)?|etc/dropbear/dropbear_\w+_host_key")
_CARDS = re.compile(r"etc/sysconfig/network-scripts/ifcfg-.+")
_NAMED_BY_MAC = "etc/udev/rules.d/70-persistent-net.rules"
"""Where old udev wrote down which card was eth0; with other cards its networks would not come up."""


def changes(guest: Guest, key: HostKey, inside: ImageContents) -> Changes:
    """Return all changes of the description except those by Augeas and commands."""
    image = guest.image
    written, removed = identity(guest, key, inside) if image and image.identity == "ours" else ({}, [])
    if guest.authorized_keys:
        home = _home_of_root(inside.etc)
        written[f"{home}/.ssh"] = tree.directory(0o700)
        written[f"{home}/.ssh/authorized_keys"] = tree.file("".join(f"{k}\n" for k in guest.authorized_keys), 0o600)
    if lines := mounts(guest):
        written["etc/fstab"] = tree.file(_text(inside.etc, "etc/fstab").rstrip("\n") + "\n" + lines)
        written |= {place: tree.directory() for place in mount_points(guest)}
    written |= {file.path.lstrip("/"): tree.file(file.content, file.mode) for file in guest.files}
    if written and "etc/selinux/config" in inside.index:
        written[".autorelabel"] = tree.file("")
    return written, [path for path in removed if path not in written]


def identity(guest: Guest, key: HostKey, inside: ImageContents) -> Changes:
    """Return name, machine-id and host key, and the removal of what binds the image to its former cards and keys."""
    etc, index = inside.etc, inside.index
    written = {"etc/hostname": tree.file(f"{guest.fqdn}\n"), "etc/hosts": tree.file(_hosts(guest, etc))}
    for path in ("etc/machine-id", "var/lib/dbus/machine-id"):
        if path in index and index[path].kind == "file":
            written[path] = tree.file(f"{machine_id(guest.fqdn)}\n", index[path].mode)
    if "etc/ssh" in index:
        written["etc/ssh/ssh_host_ed25519_key"] = tree.file(key.private, 0o600)
        written["etc/ssh/ssh_host_ed25519_key.pub"] = tree.file(f"{key.public} {guest.fqdn}\n")
    if "etc/dropbear" in index:
        written["etc/dropbear/dropbear_ed25519_host_key"] = tree.file(dropbear_host_key(key.private), 0o600)
    if "etc/sysconfig/network" in etc:
        text = re.sub(r"(?m)^HOSTNAME=.*$", f"HOSTNAME={guest.fqdn}", _text(etc, "etc/sysconfig/network"))
        written["etc/sysconfig/network"] = tree.file(text)
    for path in filter(_CARDS.fullmatch, etc):
        text = _text(etc, path)
        if (freed := re.sub(r"(?m)^(HWADDR|UUID)=.*\n?", "", text)) != text:
            written[path] = tree.file(freed)
    gone = (path for path in index if _OLD_KEYS.fullmatch(path) or path == _NAMED_BY_MAC)
    return written, [path for path in gone if path not in written]


def _hosts(guest: Guest, etc: Mapping[str, tree.Node]) -> str:
    names = guest.fqdn if guest.fqdn == guest.name else f"{guest.fqdn} {guest.name}"
    lines = _text(etc, "etc/hosts", "127.0.0.1 localhost\n").splitlines()
    kept = [line for line in lines if not line.startswith("127.0.1.1")]
    return "\n".join([*kept, f"127.0.1.1 {names}"]) + "\n"


def _home_of_root(etc: Mapping[str, tree.Node]) -> str:
    fields = (line.split(":") for line in _text(etc, "etc/passwd").splitlines())
    return next((each[5].strip("/") for each in fields if len(each) > 6 and each[0] == "root" and each[5]), "root")


def _text(etc: Mapping[str, tree.Node], path: str, default: str = "") -> str:
    node = etc.get(path)
    return node.content.decode(errors="surrogateescape") if node and node.kind == "file" else default
