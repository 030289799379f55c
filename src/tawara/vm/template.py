"""The commented descriptions that `tawara vm init` writes: of a guest, and of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network
from itertools import chain

from tawara.vm import spec
from tawara.vm.bases import RECIPES
from tawara.vm.identity import fixed_range
from tawara.vm.spec_fields import show_size
from tawara.vm.spec_network import derived_nic

_TEXT = """\
# {name}: a packaged machine. `tawara vm build {name}.toml` makes its packages; installing them runs it.
#:schema ./{name}.schema.json

fqdn = "{fqdn}"             # its identity (uuid, MAC, IP) follows from this name
version = "1"               # raise it for every change that is to be installed
base = "tiny"               # {bases}
memory = "256M"
cpus = 1
console = "serial"          # serial or vnc
# description = "One line that describes the guest"
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

# [network.web]             # a network of your own: nat, host, open (ports can be published) or bridge (see docs/vm.md)
# kind = "open"
# subnet = "192.168.240.0/24"

# [[publish]]               # a port of the host that leads to this guest, which needs a [[nic]] on an open network
# port = 80
# host_port = 8080

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

_CLUSTER = """\
# {name}: several guests as one package. `tawara vm build {name}.toml` makes it; installing it starts them all.
#:schema ./{name}.schema.json

domain = "{domain}"{pad}# guests are NAME.{domain}
prefix = "{name}-"{prefix_pad}# on the host (virsh, tawara vm) they are {name}-NAME: other clusters may have a NAME, too
version = "1"               # raise it for every change that is to be installed
outside = "nat0"            # the network of each guest's second card; "none": no such card

[network.{name}0]
kind = "host"               # host: only the host and these guests; nat: reaches the outside
subnet = "{subnet}"

[addresses]                 # by turn; each guest keeps its own, whatever comes and goes
{name}0 = "{first}-{last}"

[defaults]                  # any of a guest's settings (see `tawara vm init GUEST`), for all of them
base = "tiny"               # {bases}
memory = "256M"
authorized_keys = [{keys}]

[role.server]               # and for those with this role: lists are added, other settings replace
order = 10                  # 0 to 99: which guests start first

# [[role.server.file]]
# path = "/etc/motd"
# content = "A server.\\n"

[guest.one]
role = "server"

[guest.two]
role = "server"

[guest.three]
memory = "128M"             # a guest's own setting goes first
"""
_FIRST_SUBNET = IPv4Network("192.168.240.0/24")


def free_subnet(used: Iterable[IPv4Network]) -> IPv4Network:
    """Return a /24 for a new network that does not overlap those in use."""
    avoid = [*used, *(network.subnet for network in spec.CLASSIC_NETWORKS.values())]
    near = list(IPv4Network("192.168.128.0/17").subnets(new_prefix=24))
    start = near.index(_FIRST_SUBNET)
    candidates = chain(near[start:], near[:start], IPv4Network("10.64.0.0/10").subnets(new_prefix=24))
    return next(each for each in candidates if not any(each.overlaps(other) for other in avoid))


def describe_cluster(
    name: str, domain: str | None = None, keys: tuple[str, ...] = (), used: Iterable[IPv4Network] = ()
) -> str:
    """Return the text of a cluster's NAME.toml: three guests on their own network, which does not overlap any of
    `used`."""
    domain = domain or f"{name}.example"
    subnet = free_subnet(used)
    first, _ = fixed_range(subnet)
    return _CLUSTER.format(
        name=name,
        domain=domain,
        pad=" " * max(1, 17 - len(domain)),
        prefix_pad=" " * max(1, 16 - len(name)),
        subnet=subnet,
        first=first,
        last=first + 29,
        bases=", ".join(RECIPES),
        keys=", ".join(f'"{key}"' for key in keys),
    )


def describe(name: str, fqdn: str | None = None, keys: tuple[str, ...] = ()) -> str:
    """Return the text of NAME.toml, with every default of the classic guest."""
    fqdn = fqdn or f"{name}.example"
    text = _TEXT.format(
        name=name,
        fqdn=fqdn,
        bases=", ".join(RECIPES),
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
