"""The `If` header field of WebDAV: lists of state tokens and entity tags (RFC 4918, section 10.4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tawara.model.errors import UsageError

MOST_CONDITIONS: Final = 1000
_BLANKS: Final = re.compile(r"[ \t]*")
_REFERENCE: Final = re.compile(r"<([^<>\x00-\x20\x7f]+)>")
_TAG: Final = re.compile(r'\[((?:W/)?"[^"\x00-\x1f\x7f]*")\]')
_NOT: Final = re.compile(r"not(?=[ \t<\[])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IfCondition:
    """A state token or an entity tag that the resource has or, if `negated`, has not."""

    token: str | None = None
    etag: str | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IfList:
    """Conditions that all must hold for a resource; `resource` None is that of the request."""

    resource: str | None
    """An absolute URI or an absolute path, as the client sent it."""
    conditions: tuple[IfCondition, ...]


@dataclass(frozen=True, slots=True)
class ResourceState:
    """What conditions are compared with: the entity tag, None without a representation, and the tokens of locks."""

    etag: str | None = None
    tokens: frozenset[str] = frozenset()


def parse_if(text: str) -> tuple[IfList, ...]:
    """Parse the field's value. Raises UsageError if it is malformed or too long."""
    scanner = _Scanner(text)
    lists: list[IfList] = []
    tagged = scanner.sees("<")
    resource: str | None = None
    conditions = 0
    while not scanner.ended:
        if scanner.sees("<"):
            if not tagged:
                raise UsageError("The If field mixes lists with and without a resource")
            resource = scanner.take(_REFERENCE)
            if not scanner.sees("("):
                raise UsageError("The If field names a resource without a list")
        parsed = _parse_list(scanner)
        conditions += len(parsed)
        if conditions > MOST_CONDITIONS:
            raise UsageError("The If field has too many conditions")
        lists.append(IfList(resource, parsed))
    if not lists:
        raise UsageError("The If field is empty")
    return tuple(lists)


def _parse_list(scanner: _Scanner) -> tuple[IfCondition, ...]:
    scanner.expect("(")
    conditions: list[IfCondition] = []
    while not scanner.sees(")"):
        negated = scanner.skip(_NOT)
        if scanner.sees("<"):
            conditions.append(IfCondition(token=scanner.take(_REFERENCE), negated=negated))
        else:
            conditions.append(IfCondition(etag=scanner.take(_TAG), negated=negated))
    scanner.expect(")")
    if not conditions:
        raise UsageError("The If field has an empty list")
    return tuple(conditions)


def holds(lists: tuple[IfList, ...], state_of: Callable[[str | None], ResourceState]) -> bool:
    """Whether some list holds; `state_of` returns the state of a list's resource, an empty one if it is unknown."""
    return any(all(_matches(each, state_of(found.resource)) for each in found.conditions) for found in lists)


def _matches(condition: IfCondition, state: ResourceState) -> bool:
    if condition.token is not None:
        found = condition.token in state.tokens
    else:  # a strong comparison, in which weak tags never match
        found = state.etag is not None and state.etag == condition.etag and not state.etag.startswith("W/")
    return found is not condition.negated


def submitted_tokens(lists: tuple[IfList, ...]) -> frozenset[str]:
    """The state tokens that the field submits; one that is negated is submitted, too (RFC 4918, section 10.4.1)."""
    return frozenset(each.token for found in lists for each in found.conditions if each.token is not None)


class _Scanner:
    """Reads a text from left to right; blanks between its parts are skipped."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._skip_blanks()

    @property
    def ended(self) -> bool:
        return self._at >= len(self._text)

    def sees(self, character: str) -> bool:
        return self._text.startswith(character, self._at)

    def expect(self, character: str) -> None:
        if not self.sees(character):
            raise UsageError(f"The If field is malformed at character {self._at + 1}: {character!r} expected")
        self._at += 1
        self._skip_blanks()

    def skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            self._skip_blanks()
        return match is not None

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise UsageError(f"The If field is malformed at character {self._at + 1}")
        self._at = match.end()
        self._skip_blanks()
        return match[1]

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        self._at = match.end() if match else self._at
