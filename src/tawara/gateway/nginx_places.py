"""Renders the places of replicas: locations that send one replica or, if that fails, redirect to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tawara.gateway import nginx_applications, nginx_cache
from tawara.gateway.nginx_parameters import DEVICES, NginxConfiguration
from tawara.gateway.nginx_protocol import (
    EXHAUSTED,
    SLOTS,
    HeaderField,
    cached_place,
    local_place,
    place,
    remote_place,
    signature,
    slot,
    url,
)
from tawara.gateway.nginx_text import indent, seconds, variable
from tawara.model.limits import REPLICAS_TRIED
from tawara.wire.signatures import FIELD as SIGNATURE

FAILED: Final = "400 401 403 404 405 408 409 410 416 429 500 501 502 503 504 507"


@dataclass(frozen=True, slots=True)
class PlaceVariant:
    """How the places of replicas of a server block are rendered."""

    scripted: bool = False
    """Whether a script adds the response fields that have no slot."""
    guarded: bool = False
    """Whether the server block has applications, which must not name the places (nginx_applications)."""
    slots: bool = True
    """Whether fields may come by SLOTS; files that applications name have none."""


def render_places(conf: NginxConfiguration, variant: PlaceVariant) -> list[str]:
    """Render the places of replicas."""
    blocks = []
    for number in range(1, REPLICAS_TRIED + 1):
        blocks += [_local(number, conf, variant, whole=whole) for whole in (False, True)]
        blocks.append(render_remote(number, conf, variant))
    if conf.cache is not None and not variant.scripted:
        blocks += [_cached(conf, variant, partial=partial) for partial in (False, True)]
    return blocks


_ENTITY_FIELDS: Final = {
    "ETag": HeaderField.ETAG,
    "Last-Modified": HeaderField.MODIFIED,
    "Content-Type": HeaderField.TYPE,
    **{name: slot(name) for name in SLOTS},
}
"""Response fields of a file, with the fields in which the gateway gives them."""
_VALIDATORS: Final = ("ETag", "Last-Modified", "Content-Type")
CONDITIONS: Final = ("Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")


def _entity_fields(variant: PlaceVariant) -> dict[str, str]:
    return _ENTITY_FIELDS if variant.slots else {name: _ENTITY_FIELDS[name] for name in _VALIDATORS}


def _saved_fields(conf: NginxConfiguration, variant: PlaceVariant) -> str:
    """Render the directives that save the gateway's response fields, which a request to a storage node overwrites."""
    fields = [*_entity_fields(variant).values(), HeaderField.RANGE]
    if variant.slots:
        fields += [HeaderField.DEVICE, HeaderField.FIELDS]
    if conf.applications:
        fields.append(HeaderField.TARGET)
    for number in range(1, REPLICAS_TRIED + 1):
        fields += [url(number), signature(number)]
        if number > 1:
            fields.append(place(number))
    return "".join(f"set ${variable(field)} $upstream_http_{variable(field)};\n" for field in fields)


def _next(number: int) -> str:
    return EXHAUSTED if number == REPLICAS_TRIED else f"$tawara_next_{number + 1}"


def render_next_places() -> str:
    """Render the maps to the place of a replica. It is empty if a client requests an internal location by its path."""
    return "".join(
        f"map ${variable(place(number))} $tawara_next_{number} {{\n    default ${variable(place(number))};\n"
        f'    "" /.tawara/nginx/404;\n}}\n'
        for number in range(2, REPLICAS_TRIED + 1)
    )


def _entity(prefix: str, variant: PlaceVariant) -> str:
    """Render the fields of the file from the variables with `prefix`, and by the script those that have no slot.

    nginx's own conditions are disabled, since the gateway has evaluated them; the range filter uses these fields.
    """
    script = "js_header_filter fields.set;\n" if variant.scripted else ""
    fields = "".join(
        f"add_header {name} {prefix}{variable(field)};\n" for name, field in _entity_fields(variant).items()
    )
    fields += nginx_applications.kept_fields() if variant.guarded else ""
    return f"etag off;\nif_modified_since off;\n{script}{fields}add_header X-Content-Type-Options nosniff;\n"


def _clear_conditions(conf: NginxConfiguration, number: int, range_: str | None) -> str:
    """Render the directives that replace the client's conditions and range by the range that the gateway accepted."""
    if not conf.features.clears_fields:
        return ""
    keep = "".join(f"set ${kept(name)} $http_{variable(name)};\n" for name in CONDITIONS) if number == 1 else ""
    cleared = [name for name in CONDITIONS if name != "Range" or range_ is None]
    new = f'more_set_input_headers "Range: {range_}";\n' if range_ else ""
    return f"{keep}more_clear_input_headers {' '.join(cleared)};\n{new}"


def _guard(variant: PlaceVariant) -> str:
    return nginx_applications.GUARD if variant.guarded else ""


def kept(name: str) -> str:
    """Return the variable with a condition of the client's request."""
    return f"client_{variable(name)}"


def _local(number: int, conf: NginxConfiguration, variant: PlaceVariant, *, whole: bool) -> str:
    # Before the first request to a storage node the gateway's fields need not be saved.
    prefix = "$upstream_http_" if number == 1 else "$"
    following = "@after_local" if number == 1 else _next(number)
    range_ = None if whole else f"{prefix}{variable(HeaderField.RANGE)}"
    text = f"""\
location {local_place(number, "/", partial=not whole, scripted=variant.scripted)} {{
    internal;
{indent(_guard(variant) + _clear_conditions(conf, number, range_))}
    error_page {FAILED} = {following};
    alias {DEVICES}/;
    disable_symlinks on from=$document_root{prefix}{variable(HeaderField.DEVICE)};
    max_ranges {0 if whole else 1};
    add_header Accept-Ranges bytes;
{indent(_entity(prefix, variant))}
}}
"""
    if number > 1 or not whole or variant.scripted:
        return text
    return f"""\
{text}
# The first replica is a local file that could not be read.
location {following} {{
{indent(_guard(variant) + _saved_fields(conf, variant))}
    error_page 418 = {_next(number)};
    return 418;
}}
"""


def render_remote(number: int, conf: NginxConfiguration, variant: PlaceVariant) -> str:
    """Render the place of replica `number` at a storage node."""
    first = _saved_fields(conf, variant) + _clear_conditions(conf, number, "") if number == 1 else ""
    return f"""\
location {remote_place(number, scripted=variant.scripted)} {{
{indent(_guard(variant))}
{indent(first)}
{indent(_from_node(number, conf, variant))}
    proxy_set_header Range ${variable(HeaderField.RANGE)};
    proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
}}
"""


def _cached(conf: NginxConfiguration, variant: PlaceVariant, *, partial: bool) -> str:
    """Render the place of the first replica, at a storage node, through the cache, which has only whole files."""
    content = f"set {nginx_cache.CONTENT_VARIABLE} $upstream_http_{variable(HeaderField.CONTENT)};\n"
    range_ = f"${variable(HeaderField.RANGE)}" if partial else None
    return f"""\
location {cached_place(partial=partial)} {{
{indent(_guard(variant))}
{indent(_saved_fields(conf, variant) + content + _clear_conditions(conf, 1, range_))}
{indent(_from_node(1, conf, variant))}
    max_ranges {1 if partial else 0};
{indent(nginx_cache.render_lookup(nginx_cache.CONTENT_VARIABLE))}
}}
"""


def _from_node(number: int, conf: NginxConfiguration, variant: PlaceVariant) -> str:
    """Render the directives that fetch replica `number` and send it with the file's fields."""
    return f"""\
error_page {FAILED} = {_next(number)};
proxy_pass ${variable(url(number))};
proxy_set_header {SIGNATURE} ${variable(signature(number))};
{render_fetch(conf)}
add_header Accept-Ranges bytes;
{_entity("$", variant)}"""


def render_fetch(conf: NginxConfiguration) -> str:
    """Render the directives of every request to a storage node."""
    hidden = "".join(f"proxy_hide_header {name};\n" for name in (*_ENTITY_FIELDS, "Accept-Ranges", "Set-Cookie"))
    return f"""\
proxy_intercept_errors on;
proxy_pass_request_headers off;
proxy_pass_request_body off;
proxy_set_header Host $proxy_host;
proxy_set_header Content-Length "";
proxy_connect_timeout {seconds(conf.node_connect)};
proxy_read_timeout {seconds(conf.node_answer)};
{hidden}"""
