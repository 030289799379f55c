"""Renders the small parts of nginx's configuration language."""

from __future__ import annotations


def variable(field: str) -> str:
    """Return the part of an nginx variable's name that stands for the header field."""
    return field.lower().replace("-", "_")


def seconds(value: float) -> str:
    """Render a time in seconds."""
    return f"{max(1, round(value * 1000))}ms"


def quoted(text: str) -> str:
    """Render a text as one parameter."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def indent(text: str, by: int = 4) -> str:
    """Indent every line."""
    return "\n".join(" " * by + line if line else "" for line in text.rstrip("\n").split("\n"))
