"""Verbs about domains and their classes (docs/mogilefs.md 4)."""

from __future__ import annotations

from tawara.metadata import class_changes
from tawara.metadata import cluster as rows
from tawara.model import errors
from tawara.model.cluster import DEFAULT_CLASS, HashType
from tawara.model.limits import CLASS_NAME_BYTES, MOST_COPIES, NAME_BYTES
from tawara.model.policy import parse as parse_policy
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_LONGEST_POLICY = 255
_MOGILEFS_HASHES = (HashType.MD5, HashType.SHA1)


async def create_domain(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Create a domain."""
    name = call.new_name("domain", errors.NoDomain, NAME_BYTES)
    if "/" in name or name in (".", "..", ".tawara"):  # .tawara: the gateway's own pages
        raise errors.InvalidName(
            f"{name!r} cannot name a domain, for in DOMAIN/KEY and in URLs it means something else"
        )
    await tracker.metadata.write(rows.create_domain, name)
    await tracker.view.renew()
    return {"domain": name}


async def delete_domain(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Remove a domain that has neither files nor classes."""
    name = call.name("domain", errors.NoDomain)
    await tracker.metadata.write(rows.delete_domain, name)
    await tracker.view.renew()
    return {"domain": name}


async def get_domains(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List all domains with their classes. The argument names of MogileFS's reply have no separators."""
    domains = (await tracker.view.refresh()).domains.values()  # another tracker may have made one a moment ago
    reply: dict[str, Value] = {"domains": len(domains)}
    for number, domain in enumerate(domains, 1):
        reply[f"domain{number}"] = domain.name
        reply[f"domain{number}classes"] = len(domain.classes)
        for class_number, each in enumerate(domain.classes.values(), 1):
            prefix = f"domain{number}class{class_number}"
            reply[f"{prefix}name"] = each.name
            reply[f"{prefix}mindevcount"] = each.mindevcount
            reply[f"{prefix}replpolicy"] = each.policy
            reply[f"{prefix}hashtype"] = each.hashtype.wire if each.hashtype else "NONE"
    return reply


async def create_class(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Create a class of a domain; `default` gets a row of its own."""
    domain = call.name("domain", errors.NoDomain)
    name = call.new_name("class", errors.NoClass, CLASS_NAME_BYTES)
    mindevcount, policy, hashtype = _mindevcount(call), _policy(call), _hashtype(tracker, call)
    await tracker.metadata.write(
        rows.create_class, domain, name, mindevcount=mindevcount, replpolicy=policy, hashtype=hashtype
    )
    await tracker.view.renew()
    return {"class": name, "mindevcount": mindevcount, "domain": domain}


async def update_class(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Change a class; an empty policy keeps the current one, the hash type `NONE` removes the hash type."""
    domain = call.name("domain", errors.NoDomain)
    name = call.name("class", errors.NoClass)
    mindevcount, policy, hashtype = _mindevcount(call), _policy(call), _hashtype(tracker, call)
    await tracker.metadata.write(
        class_changes.update_class,
        domain,
        name,
        mindevcount=mindevcount,
        replpolicy=policy,
        hashtype=hashtype,
        clear_hashtype=bool(call.raw("hashtype")) and hashtype is None,
    )
    await tracker.view.renew()
    return {"class": name, "mindevcount": mindevcount, "domain": domain}


async def delete_class(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Remove a class that has no files."""
    domain = call.name("domain", errors.NoDomain)
    name = call.name("class", errors.NoClass)
    if name == DEFAULT_CLASS:
        raise errors.NodelDefaultClass
    await tracker.metadata.write(rows.delete_class, domain, name)
    await tracker.view.renew()
    return {"domain": domain, "class": name}


def _mindevcount(call: TrackerRequest) -> int:
    count = call.number("mindevcount") or 0
    if count < 1:
        raise errors.InvalidMindevcount
    if count > MOST_COPIES:
        raise errors.InvalidMindevcount(f"The mindevcount must be at most {MOST_COPIES}")
    return count


def _policy(call: TrackerRequest) -> str | None:
    text = call.text("replpolicy")
    if not text:
        return None
    if len(text) > _LONGEST_POLICY:
        raise errors.InvalidReplpolicy(f"A replication policy has at most {_LONGEST_POLICY} characters")
    parse_policy(text)
    return text


def _hashtype(tracker: TrackerContext, call: TrackerRequest) -> HashType | None:
    """Return the hash type; None for `NONE` and for an absent argument. Raises InvalidHashtype."""
    name = call.text("hashtype")
    if name in ("", "NONE"):
        return None
    hashtype = HashType.from_wire(name)
    if hashtype is None:
        raise errors.InvalidHashtype
    if tracker.beside_mogilefsd and hashtype not in _MOGILEFS_HASHES:
        raise errors.InvalidHashtype(
            f"mogilefsd, which uses the same database, does not know the checksum {hashtype.wire}",
            hint="Use NONE, MD5 or SHA-1 as long as store.beside_mogilefsd is set.",
        )
    return hashtype
