"""Scope of a check (fsck): a domain, a class, keys with a prefix, files on certain devices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Focus:
    """The conditions that a file must meet, all of them; without conditions every file is checked."""

    dmid: int | None = None
    classid: int | None = None
    prefix: bytes = b""
    devids: frozenset[int] = frozenset()
    """A replica is on one of these; empty means any device."""
    every_byte: bool = False
    """Compute digests of every replica, independent of the class. Not a condition."""

    @property
    def confines(self) -> bool:
        """Whether any condition is given."""
        return self.dmid is not None or bool(self.prefix or self.devids)

    def __str__(self) -> str:
        """`key=value key=value`, as stored in the settings; empty for every file."""
        said = {
            "dmid": self.dmid,
            "classid": self.classid,
            "prefix": self.prefix.hex() or None,
            "devids": ",".join(map(str, sorted(self.devids))) or None,
            "every_byte": 1 if self.every_byte else None,
        }
        return " ".join(f"{name}={value}" for name, value in said.items() if value is not None)

    @classmethod
    def parse(cls, text: str) -> Focus:
        """Parse the output of `str`. Raises ValueError."""
        said = dict(word.split("=", 1) for word in text.split())
        return cls(
            dmid=int(said["dmid"]) if "dmid" in said else None,
            classid=int(said["classid"]) if "classid" in said else None,
            prefix=bytes.fromhex(said.get("prefix", "")),
            devids=frozenset(map(int, said["devids"].split(","))) if "devids" in said else frozenset(),
            every_byte="every_byte" in said,
        )
