"""What a check (fsck) is confined to: a domain, a class of it, keys with a prefix, files on certain devices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Focus:
    """All that is given must hold for a file; nothing given is every file."""

    dmid: int | None = None
    classid: int | None = None
    prefix: bytes = b""
    devids: frozenset[int] = frozenset()
    """A replica on one of these; empty is wherever."""
    every_byte: bool = False
    """Not a confinement: digests are taken of every replica, whatever the class says."""

    @property
    def confines(self) -> bool:
        """Whether there may be files that are left out."""
        return self.dmid is not None or bool(self.prefix or self.devids)

    def __str__(self) -> str:
        """`key=value key=value`, as it stands in the settings; empty for every file."""
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
        """Read what `str` made. Raises ValueError."""
        said = dict(word.split("=", 1) for word in text.split())
        return cls(
            dmid=int(said["dmid"]) if "dmid" in said else None,
            classid=int(said["classid"]) if "classid" in said else None,
            prefix=bytes.fromhex(said.get("prefix", "")),
            devids=frozenset(map(int, said["devids"].split(","))) if "devids" in said else frozenset(),
            every_byte="every_byte" in said,
        )
