"""The commented description that `tawara vm init` writes, and the JSON Schema by which editors check one."""

from __future__ import annotations

from typing import Any

from tawara.vm import spec
from tawara.vm.identity import fixed_range
from tawara.vm.spec_fields import show_size
from tawara.vm.spec_read import derived_nic

_TEXT = """\
# {name}: a packaged machine. `tawara vm build {name}.toml` makes its packages; installing them runs it.
#:schema ./{name}.schema.json

fqdn = "{fqdn}"             # its identity (uuid, MAC, IP) follows from this name
version = "1"               # raise it for every change that is to be installed
base = "tiny"               # {bases}
memory = "256M"
cpus = 1
console = "serial"          # serial or vnc
# description = "One line for people"
# order = 50                # 0 to 99: which guests start first

# Someone else's disk in place of a base. Unless told otherwise its disk is IDE and its cards are e1000.
# image = "old.qcow2"
# image_sha256 = "…"                  # of that file; required
# image_identity = "ours"             # its name and ssh host key become ours (libguestfs edits it), or: kept
# image_host_key = "ssh-rsa …"        # of an image that keeps its own, so that ssh can check it
# augeas = ["set /files/etc/ssh/sshd_config/PasswordAuthentication no"]

# Who may log in as root: the text of your id_ed25519.pub.
authorized_keys = [{keys}]

# packages = ["nginx-light"]          # from Debian; not for the tiny base
# commands = ["echo done >/etc/motd"] # run once inside, when the package is built
# services = ["nginx"]                # started at boot

[disk]
size = "{disk}"
bus = "virtio"              # {buses}

# What must outlive an upgrade of the system goes to a disk of its own.
# [data]
# size = "1G"
# mount = "/data"

# [[file]]
# path = "/etc/motd"
# content = "Welcome.\\n"     # or: source = "a/file/beside/this/one"
# mode = "0644"

# [[share]]                 # a directory of the host
# source = "/srv/photos"
# target = "/srv/photos"
# kind = "virtiofs"         # or 9p, for foreign images that know only that

# Four network cards, as ever: two that reach the outside, two for the host and its guests alone.
# The first one's address is what the guest's name stands for on the host.
"""

_NIC = """\
[[nic]]
network = "{network}"{pad}# {kind}, {subnet}
model = "virtio"            # {models}
# ip = "{ip}"{ip_pad}# derived from the name; {first} to {last} may be chosen
# mac = "{mac}"

"""


def describe(name: str, fqdn: str | None = None, keys: tuple[str, ...] = ()) -> str:
    """The text of NAME.toml, every default of the classic guest spelt out."""
    fqdn = fqdn or f"{name}.example"
    text = _TEXT.format(
        name=name,
        fqdn=fqdn,
        bases=", ".join(spec.BASES),
        buses=", ".join(spec.BUSES),
        disk=show_size(5 * spec.GiB),
        keys=", ".join(f'"{key}"' for key in keys),
    )
    for index, network in enumerate(spec.CLASSIC_NETWORKS.values()):
        nic = derived_nic(fqdn, network, index)
        first, last = fixed_range(network.subnet)
        text += _NIC.format(
            network=network.name,
            pad=" " * (16 - len(network.name)),
            kind="reaches the outside" if network.kind == "nat" else "the host and its guests",
            subnet=network.subnet,
            models=", ".join(spec.NIC_MODELS),
            ip=nic.ip,
            ip_pad=" " * (19 - len(str(nic.ip))),
            first=first,
            last=last,
            mac=nic.mac,
        )
    return text.rstrip("\n") + "\n"


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a guest's description."""
    text: dict[str, Any] = {"type": "string"}
    texts = {"type": "array", "items": text}
    size = {"type": "string", "pattern": "^\\d+ ?[KMGTkmgt]?(i?[Bb])?$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A packaged machine",
        "dependentRequired": {"image": ["image_sha256"]},
        **_table(
            name=text | {"pattern": "^[a-z][a-z0-9-]{0,29}$"},
            fqdn=text,
            version=text,
            base={"enum": list(spec.BASES)},
            image=text,
            image_sha256=text | {"pattern": "^[0-9a-f]{64}$"},
            image_identity={"enum": ["ours", "kept"]},
            image_host_key=text,
            augeas=texts,
            memory=size,
            cpus={"type": "integer", "minimum": 1, "maximum": 255},
            order={"type": "integer", "minimum": 0, "maximum": 99},
            description=text,
            console={"enum": ["serial", "vnc"]},
            packages=texts,
            commands=texts,
            services=texts,
            authorized_keys=texts,
            disk=_table(size=size, bus={"enum": list(spec.BUSES)}),
            data=_table(size=size, mount=text),
            nic=_list(_table(network=text, model={"enum": list(spec.NIC_MODELS)}, mac=text, ip=text)),
            file=_list(_table(path=text, content=text, source=text, mode=text)),
            share=_list(_table(source=text, target=text, kind={"enum": ["virtiofs", "9p"]})),
            network={
                "type": "object",
                "additionalProperties": _table(kind={"enum": ["nat", "host"]}, subnet=text),
            },
        ),
    }


def _table(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
