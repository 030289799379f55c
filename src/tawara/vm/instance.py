"""Another instance of an installed guest: the same system under another name, with its own identity. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from tawara.vm.errors import SpecError, TakenError
from tawara.vm.spec import Guest, Nic
from tawara.vm.spec_network import derived_nic
from tawara.vm.spec_read import FQDN, NAME


def clone(template: Guest, name: str, fqdn: str | None = None, ips: Mapping[str, IPv4Address] | None = None) -> Guest:
    """Return the template under a new name, without its published ports; `ips`: addresses by the network's name."""
    if not NAME.fullmatch(name):
        raise SpecError.plain(f"{name!r} is no name for a guest", "Use a letter, then letters, digits and -.")
    _, _, domain = template.fqdn.partition(".")
    fqdn = fqdn or (f"{name}.{domain}" if domain else name)
    if not FQDN.fullmatch(fqdn):
        raise SpecError.plain(f"{fqdn!r} is no host name", "Write one in lower case, such as web2.example.")
    nics = tuple(_nic(nic, fqdn, index, ips or {}) for index, nic in enumerate(template.nics))
    return replace(template, name=name, fqdn=fqdn, nics=nics, published=(), cluster="")


def refuse_taken(guest: Guest, taken: Mapping[str, str]) -> None:
    """Raise TakenError, with the owner, if a claim of the guest (`ip/…`, `mac/…`) is among those of others."""
    wanted = {f"name/{guest.name}", f"fqdn/{guest.fqdn}"}
    wanted |= {f"mac/{nic.mac}" for nic in guest.nics} | {f"ip/{nic.ip}" for nic in guest.nics}
    clashes = sorted(wanted & set(taken))
    if clashes:
        words = "; ".join(f"{claim.replace('/', ' ')} belongs to {taken[claim]}" for claim in clashes)
        raise TakenError(words, hint="Choose another name, or give a free address with --ip NETWORK=ADDRESS.")


def _nic(nic: Nic, fqdn: str, index: int, ips: Mapping[str, IPv4Address]) -> Nic:
    if nic.network.kind == "bridge" and nic.network.name not in ips:
        what = f"{nic.network.name} is a network of others, where no address can be derived from a name"
        raise SpecError.plain(what, f"Choose one that is free there: --ip {nic.network.name}=ADDRESS.")
    derived = derived_nic(fqdn, nic.network, index, nic.model)
    return replace(derived, ip=ips.get(nic.network.name, derived.ip))
