"""Grants: the domains, key prefixes and rights that an access key has; decides whether a request is allowed.

The text of a grant is `DOMAIN=RIGHTS` or `DOMAIN/PREFIX=RIGHTS`. In DOMAIN, `*` stands for any characters. A grant with
a prefix covers the keys that begin with it. RIGHTS are letters:

    r   read files, and list keys (`l` goes with it)
    l   list keys
    w   store, replace and delete files; it does not include reading
    a   administer the domain: its settings, and its creation and removal where a protocol offers that

So `rw` reads, lists, stores and deletes. Whatever no grant allows is denied; there are no grants that deny.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final

from tawara.model.errors import InvalidGrant
from tawara.model.limits import KEY_BYTES, NAME_BYTES


class Right(Flag):
    """What a request needs, or a grant allows."""

    READ = auto()
    LIST = auto()
    WRITE = auto()
    ADMIN = auto()


NO_RIGHT: Final = Right(0)
EVERY_RIGHT: Final = Right.READ | Right.LIST | Right.WRITE | Right.ADMIN
_LETTERS: Final = {"r": Right.READ | Right.LIST, "l": Right.LIST, "w": Right.WRITE, "a": Right.ADMIN}


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights to the files of some domains."""

    domains: str
    """Name of a domain, in which `*` stands for any characters."""
    prefix: bytes
    """The beginning of the keys that are covered; empty for all."""
    rights: Right

    def allows(self, right: Right, domain: str, key: bytes) -> bool:
        """Return whether `right` is granted for a key; for LIST, `key` is the prefix of the keys to be listed."""
        return right in self.rights and key.startswith(self.prefix) and _matches(self.domains, domain)

    def __str__(self) -> str:
        prefix = f"/{self.prefix.decode()}" if self.prefix else ""
        return f"{self.domains}{prefix}={_letters(self.rights)}"


EVERYTHING: Final = Grant("*", b"", EVERY_RIGHT)
"""The grant of an administrator: all rights to all domains."""


def parse(text: str) -> Grant:
    """Parse the text of a grant. Raises InvalidGrant, which says what is wrong."""
    what, equals, letters = text.rpartition("=")
    domains, _, prefix = what.partition("/")
    if not equals or not domains:
        raise InvalidGrant(f"{text!r} is not DOMAIN=RIGHTS")
    unknown = sorted(set(letters) - set(_LETTERS))
    if unknown or not letters:
        raise InvalidGrant(f"{text!r}: {f'{unknown[0]!r} is not a right' if unknown else 'no right after the ='}")
    try:
        encoded = prefix.encode()
        named = domains.encode()
    except UnicodeEncodeError:
        raise InvalidGrant(f"{text!r} is not UTF-8") from None
    if len(encoded) > KEY_BYTES or len(named) > NAME_BYTES or not domains.isprintable():
        raise InvalidGrant(f"{text[:80]!r}: the domain or the prefix is too long or not printable")
    return Grant(domains, encoded, _rights(letters))


def allowed(grants: Iterable[Grant], right: Right, domain: str, key: bytes) -> bool:
    """Return whether any of the grants allows `right` for a key of `domain`; see Grant.allows."""
    return any(grant.allows(right, domain, key) for grant in grants)


def lists_some(grants: Iterable[Grant], domain: str) -> bool:
    """Return whether any of the grants allows to list keys of `domain`, be it those with some prefix."""
    return any(Right.LIST in grant.rights and _matches(grant.domains, domain) for grant in grants)


def _matches(pattern: str, name: str) -> bool:
    """Return whether a name matches a pattern with `*`, in time proportional to their lengths at most."""
    first, *middle = pattern.split("*")
    if not middle:
        return name == pattern
    last = middle.pop()
    position, end = len(first), len(name) - len(last)
    if end < position or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, position, end)
        if found < 0:
            return False
        position = found + len(part)
    return True


def _rights(letters: str) -> Right:
    rights = NO_RIGHT
    for letter in letters:
        rights |= _LETTERS[letter]
    return rights


def _letters(rights: Right) -> str:
    """Return the shortest letters for some rights: `l` is left out beside `r`."""
    letters = "".join(letter for letter in "rwla" if _LETTERS[letter] in rights)
    return letters.replace("l", "") if "r" in letters else letters
