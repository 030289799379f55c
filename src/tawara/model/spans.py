"""Formats spans of time and counts for messages."""

from __future__ import annotations

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def span(seconds: float) -> str:
    """Format a duration (`3 days`, `1 hour`), rounded to the largest unit with at least two, or exactly one."""
    whole = max(0, round(seconds))
    for size, name in _UNITS:
        if whole >= 2 * size or whole == size or size == 1:
            return counted(round(whole / size), name)
    raise AssertionError


def roughly(seconds: float) -> str:
    """Format an estimate: `about 3 days`, `less than a second`."""
    return f"about {span(seconds)}" if seconds >= 1 else "less than a second"


def when(moment: float, now: float) -> str:
    """Format a time relative to `now`: `in 3 minutes`, `now`, `2 hours ago`."""
    if abs(moment - now) < 1:
        return "now"
    return f"in {span(moment - now)}" if moment > now else f"{span(now - moment)} ago"


def counted(number: int, thing: str) -> str:
    """Format a count with its noun: `1 file`, `2,000 files`, `3 copies`."""
    if number == 1:
        return f"1 {thing}"
    if thing.endswith("y") and thing[-2] not in "aeiou":
        return f"{number:,} {thing[:-1]}ies"
    return f"{number:,} {thing}{'es' if thing.endswith('s') else 's'}"


def listed(items: list[str]) -> str:
    """Join items: `a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
