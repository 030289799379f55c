"""JSON Schema (draft 2020-12) of the descriptions of a guest and of a cluster, for editors."""

from __future__ import annotations

from typing import Any

from tawara.vm import spec
from tawara.vm.bases import RECIPES

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SIZE = {"type": "string", "pattern": "^\\d+ ?[KMGTkmgt]?(i?[Bb])?$"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def guest_schema() -> dict[str, Any]:
    """Return the schema of what `tawara vm build` reads as a guest."""
    return {
        "$schema": _DRAFT,
        "title": "A packaged machine",
        "dependentRequired": {"image": ["image_sha256"]},
        **_table(name=_TEXT | {"pattern": "^[a-z][a-z0-9-]{0,29}$"}, **_guest()),
    }


def cluster_schema() -> dict[str, Any]:
    """Return the schema of what `tawara vm build` reads as a cluster."""
    of_a_guest = {"$ref": "#/$defs/settings"}
    return {
        "$schema": _DRAFT,
        "title": "A packaged data centre",
        "$defs": {"settings": {"type": "object", "properties": _guest()}},
        "required": ["guest"],
        **_table(
            name=_TEXT | {"pattern": "^[a-z][a-z0-9-]{0,29}$"},
            domain=_TEXT,
            version=_TEXT,
            prefix=_TEXT | {"pattern": "^([a-z][a-z0-9-]{0,19})?$"},
            outside=_TEXT,
            network=_networks(),
            addresses={
                "type": "object",
                "additionalProperties": _TEXT | {"pattern": "^[0-9.]+ *- *[0-9.]+$"},
            },
            defaults=of_a_guest | {"unevaluatedProperties": False},
            role={"type": "object", "additionalProperties": of_a_guest | {"unevaluatedProperties": False}},
            guest={
                "type": "object",
                "minProperties": 1,
                "additionalProperties": of_a_guest | {"properties": {"role": _TEXT}, "unevaluatedProperties": False},
            },
        ),
    }


def _guest() -> dict[str, Any]:
    """Return a guest's settings except its name."""
    return {
        "fqdn": _TEXT,
        "version": _TEXT,
        "base": {"enum": list(RECIPES)},
        "image": _TEXT,
        "image_sha256": _TEXT | {"pattern": "^[0-9a-f]{64}$"},
        "image_identity": {"enum": ["ours", "kept"]},
        "image_host_key": _TEXT,
        "augeas": _TEXTS,
        "memory": _SIZE,
        "cpus": {"type": "integer", "minimum": 1, "maximum": 255},
        "order": {"type": "integer", "minimum": 0, "maximum": 99},
        "description": _TEXT,
        "console": {"enum": ["serial", "vnc"]},
        "packages": _TEXTS,
        "commands": _TEXTS,
        "services": _TEXTS,
        "authorized_keys": _TEXTS,
        "disk": _table(size=_SIZE, bus={"enum": list(spec.BUSES)}),
        "data": _table(size=_SIZE, mount=_TEXT),
        "nic": _list(_table(network=_TEXT, model={"enum": list(spec.NIC_MODELS)}, mac=_TEXT, ip=_TEXT)),
        "file": _list(_table(path=_TEXT, content=_TEXT, source=_TEXT, mode=_TEXT)),
        "share": _list(_table(source=_TEXT, target=_TEXT, kind={"enum": ["virtiofs", "9p"]})),
        "publish": _list(
            _table(port=_PORT, host_port=_PORT, protocol={"enum": ["tcp", "udp"]}, address=_TEXT, network=_TEXT)
        ),
        "network": _networks(),
    }


def _networks() -> dict[str, Any]:
    network = _table(
        kind={"enum": ["nat", "host", "open", "bridge"]}, subnet=_TEXT, bridge=_TEXT, router=_TEXT, resolver=_TEXT
    )
    return {"type": "object", "additionalProperties": network}


def _table(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
