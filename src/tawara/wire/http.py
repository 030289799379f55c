"""HTTP syntax of the gateway: request targets, keys in paths, dates, entity tags, preconditions (RFC 9110, 3986).

A target is `/DOMAIN/KEY`: the domain ends at the first slash, and the rest is the key, percent-decoded once.
Segments `.` are removed, unless they are written `%2E`.

So `%2F` is an ordinary slash of the key, `+` is a plus, and trailing or repeated slashes are kept. A key can be written
in several ways in a URL; `path_of` returns the canonical one.
"""

from __future__ import annotations

import re
from calendar import timegm
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate
from enum import Enum
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes

from tawara.model.errors import InvalidKey, UsageError
from tawara.model.limits import KEY_BYTES, NAME_BYTES
from tawara.model.reserved_keys import NOT_YOURS, is_reserved

_ORIGIN: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_SIMPLE: Final = re.compile(r"/([\w.-]{1,255})/([\w./-]+)", re.ASCII)
"""Most targets: nothing is escaped, and there is no query."""
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SAFE_IN_KEY: Final = "/:@!$&'()*,;=~"
_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*")')
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATES: Final = (
    re.compile(r"[A-Z][a-z]{2}, (?P<d>\d\d) (?P<m>[A-Z][a-z]{2}) (?P<y>\d{4}) (?P<t>\d\d:\d\d:\d\d) GMT", re.ASCII),
    re.compile(r"[A-Z][a-z]{5,8}, (?P<d>\d\d)-(?P<m>[A-Z][a-z]{2})-(?P<y>\d\d) (?P<t>\d\d:\d\d:\d\d) GMT", re.ASCII),
    re.compile(r"[A-Z][a-z]{2} (?P<m>[A-Z][a-z]{2}) (?P<d>[ \d]\d) (?P<t>\d\d:\d\d:\d\d) (?P<y>\d{4})", re.ASCII),
)
"""IMF-fixdate, and the two obsolete forms that servers must understand (RFC 9110, section 5.6.7)."""


# --- targets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed request target. Without a domain it refers to the gateway itself, without a key to the domain."""

    domain: str = ""
    key: bytes = b""
    query: str = ""

    def parameters(self) -> dict[str, bytes]:
        """The query parameters, form-decoded (`+` is a blank); the last value of a repeated name is used.

        Raises UsageError if there are too many.
        """
        try:
            pairs = parse_qsl(
                self.query, keep_blank_values=True, errors="surrogateescape", max_num_fields=32, separator="&"
            )
        except ValueError:
            raise UsageError("The query has too many parameters") from None
        return {name: value.encode("utf-8", "surrogateescape") for name, value in pairs}


def parse_target(raw: str) -> Target:
    """Parse the target of a request line in origin or absolute form; non-ASCII bytes are surrogates or UTF-8.

    Raises UsageError if it is not a path, has a malformed escape or a NUL, or leads above the root; InvalidKey if the
    key is too long or reserved.
    """
    if (simple := _SIMPLE.fullmatch(raw)) is not None and "/." not in raw and len(simple[2]) <= KEY_BYTES:
        return Target(simple[1], simple[2].encode())
    path, _, query = _ORIGIN.sub("", raw, count=1).partition("?")
    data = path.encode("utf-8", "surrogateescape")
    if not data.startswith(b"/") or _BROKEN_ESCAPE.search(data) or b"#" in data:
        raise UsageError("The address is not a path of percent-encoded bytes")
    if _leaves_root(unquote_to_bytes(data)):
        raise UsageError("The address climbs above the root")
    domain, _, key = _without_dots(data)[1:].partition(b"/")
    decoded = unquote_to_bytes(key)
    name = unquote_to_bytes(domain).decode("utf-8", "replace")
    if b"\0" in decoded or "\0" in name:
        raise UsageError("The address holds a NUL")
    if len(decoded) > KEY_BYTES:
        raise InvalidKey(f"A key has at most {KEY_BYTES} bytes")
    if is_reserved(decoded):
        raise InvalidKey(NOT_YOURS)
    return Target(name[: NAME_BYTES + 1], decoded, query)


def _without_dots(path: bytes) -> bytes:
    """Remove segments `.` from the path (RFC 3986, section 5.2.4); a key has such a segment as `%2E`."""
    if b"/." not in path:
        return path
    *segments, last = path.split(b"/")
    return b"/".join([*(each for each in segments if each != b"."), b"" if last == b"." else last])


def _leaves_root(path: bytes) -> bool:
    """Whether `..` leads above the root at some point; refused everywhere, because proxies refuse it."""
    depth = 0
    for segment in path.split(b"/"):
        if segment == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif segment not in (b"", b"."):
            depth += 1
    return False


def path_of(domain: str, key: bytes) -> str:
    """The path at which the gateway serves a key: `/DOMAIN/KEY`, percent-encoded."""
    segments = quote_from_bytes(key, safe=_SAFE_IN_KEY).split("/")
    return "/".join(
        ["", quote_from_bytes(domain.encode(), safe=""), *("%2E" if each == "." else each for each in segments)]
    )


# --- dates and entity tags --------------------------------------------------------------------------------------------


@lru_cache(1024)
def http_date(seconds: int) -> str:
    """Format unix seconds as an HTTP date (RFC 9110, section 5.6.7)."""
    return formatdate(seconds, usegmt=True)


def parse_date(text: str | None) -> int | None:
    """Parse a date in one of HTTP's three formats to unix seconds; None for an invalid date, which is ignored."""
    for form in _DATES if text else ():
        match = form.fullmatch(text.strip()) if text else None
        if match is None or match["m"] not in _MONTHS:
            continue
        year = int(match["y"])
        if year < 100:
            year += 1900 if year >= 70 else 2000
        hour, minute, second = map(int, match["t"].split(":"))
        try:
            moment = datetime(year, _MONTHS.index(match["m"]) + 1, int(match["d"]), hour, minute, min(second, 59))
        except ValueError:
            return None
        return timegm(moment.timetuple()) + (second == 60)
    return None


def entity_tag(fid: int, length: int) -> str:
    """The strong entity tag of a fid's bytes, which are immutable and the same in every replica."""
    return f'"{fid:x}-{length:x}"'


# --- preconditions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Validators:
    """The current state of a resource that preconditions are compared with."""

    etag: str
    """Strong entity tag, including the quotes."""
    modified: int | None = None
    """Time of last modification, unix seconds; None if unknown."""


class ConditionResult(Enum):
    """Result of evaluating the preconditions of a request."""

    PROCEED = "do what the method says"
    NOT_MODIFIED = "304: the client has it already"
    FAILED = "412: it is not as the client thinks"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditional header fields of a request; several lines of one name are joined by commas."""

    if_match: str | None = None
    if_unmodified_since: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_range: str | None = None

    @property
    def guarded(self) -> bool:
        """Whether the request has If-Match, If-None-Match or another precondition on the resource's state."""
        return self.if_match is not None or self.if_unmodified_since is not None

    def judge(self, current: Validators | None, *, reading: bool) -> ConditionResult:
        """Evaluate in the order of RFC 9110, section 13.2.2; `current` is None if the resource does not exist."""
        modified = current.modified if current else None
        if self.if_match is not None:
            if current is None or not _matches_any(self.if_match, current.etag, weakly=False):
                return ConditionResult.FAILED
        elif (since := parse_date(self.if_unmodified_since)) is not None and modified is not None and modified > since:
            return ConditionResult.FAILED
        if self.if_none_match is not None:
            if current is not None and _matches_any(self.if_none_match, current.etag, weakly=True):
                return ConditionResult.NOT_MODIFIED if reading else ConditionResult.FAILED
        elif reading and (since := parse_date(self.if_modified_since)) is not None and modified is not None:
            return ConditionResult.NOT_MODIFIED if modified <= since else ConditionResult.PROCEED
        return ConditionResult.PROCEED

    def ranges_apply(self, current: Validators) -> bool:
        """Whether Range applies: If-Range is missing or matches the current state (RFC 9110, section 13.1.5)."""
        if self.if_range is None:
            return True
        text = self.if_range.strip()
        if text.endswith('"'):
            return text == current.etag
        return current.modified is not None and parse_date(text) == current.modified


def _matches_any(field: str, etag: str, *, weakly: bool) -> bool:
    """Whether an If-Match or If-None-Match field is `*` or names `etag` (comparison: RFC 9110, section 8.8.3.2)."""
    if field.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _TAG.findall(field))
