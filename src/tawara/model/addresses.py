"""Parses addresses: those that a daemon listens on, and those at which other machines reach a host."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

LONGEST: Final = 255
"""Most characters of a host name."""
_NAME: Final = re.compile(r"(?!.*[.-]{2})[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII)
_NUMERIC: Final = re.compile(r"(.*\.)?[0-9]+")
"""A name whose last part is a number: a valid or malformed IPv4 address."""
_PORT: Final = re.compile(r"[0-9]{1,5}")


def listening(text: str) -> tuple[str, int]:
    """Parse `127.0.0.1:7001`, `[::1]:7001` or `:7001` (loopback) into host and port. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("write it as ADDRESS:PORT, for example 127.0.0.1:7001; a port is a number up to 65535")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError("write an IPv6 address in brackets, for example [::1]:7001")
    if host.startswith("["):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    if host and not _is_ip(host) and not _is_name(host):
        raise ValueError(f"{host!r} is neither an IP address nor a host name")
    return host or "127.0.0.1", int(port)


def reachable(text: str) -> str:
    """Parse an address at which other machines reach a host: an IP address or host name. Raises ValueError."""
    if len(text) > LONGEST:
        raise ValueError(f"has at most {LONGEST} characters")
    if _is_ip(text):
        address = ipaddress.ip_address(text)
        if address.is_unspecified or address.is_multicast or text == "255.255.255.255":
            raise ValueError(f"must be the address of a machine, and {text} is not")
        return str(address)
    if not _is_name(text):
        raise ValueError("must be an IP address or a host name")
    return text


def is_wildcard(host: str) -> bool:
    """Whether a daemon that listens on `host` listens on all addresses of its machine."""
    return _is_ip(host) and ipaddress.ip_address(host).is_unspecified


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # an IPv6 scope is valid on one machine only


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and _NUMERIC.fullmatch(text) is None
