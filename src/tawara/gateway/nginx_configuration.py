"""Renders nginx's configuration from one value; it contains no data of requests and no paths chosen by users.

nginx runs with the directory of its files as working directory, so every path is relative and short: `gateway.sock`,
where the gateway listens, and `devices`, a link to the directory of this machine's devices.

GET: the gateway answers with the place of the first replica in `X-Accel-Redirect` and the next choices in
`X-Tawara-Place-2`, …; a place is a location that sends one replica or, if that fails, redirects to the next. PUT: a
small body is sent to the gateway with the request. Before a larger body is read, `auth_request` asks the gateway, nginx
receives the body into a file, and the gateway gets its path. `HeaderField` has the names of the header fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tawara.gateway.nginx_protocol import (
    EXHAUSTED,
    METHODS,
    SLOTS,
    SOCKET,
    STREAM,
    GatewayStep,
    HeaderField,
    local_place,
    place,
    remote_place,
    signature,
    slot,
    url,
)
from tawara.gateway.nginx_text import indent, quoted, seconds, variable
from tawara.gateway.spool import BODIES
from tawara.model.limits import REPLICAS_TRIED
from tawara.wire.signatures import FIELD as SIGNATURE

DEVICES: Final = "devices"
PID: Final = "nginx.pid"
ERRORS: Final = "error.log"
CHAIN: Final = "tls.crt"
KEY: Final = "tls.key"


@dataclass(frozen=True, slots=True)
class NginxFeatures:
    """What an nginx can do beyond what every supported version can."""

    clears_fields: bool = False
    """Whether it can remove fields of a request (headers-more), and so its own evaluation of conditions."""
    http2: bool = False
    """Whether it speaks HTTP/2, by the directive `http2`."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One server block: a protocol that the gateway speaks, with an address of its own."""

    listen: str
    """`ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH` of the socket that nginx inherits."""
    name: str = "http"
    """Value of HeaderField.LISTENER for the requests of this listener."""
    any_field_names: bool = False
    """Whether header fields whose names have `_` or `.` are passed on; nginx drops them otherwise."""
    tls: bool = False
    """Whether it speaks TLS, with the pair in the files CHAIN and KEY."""


@dataclass(frozen=True, slots=True)
class NginxConfiguration:
    """The parameters of the configuration. Sizes are in bytes, times in seconds."""

    listeners: Sequence[Listener]
    as_root: bool
    """Whether the gateway runs as root; nginx workers then stay root, since the devices belong to that user."""
    workers: int
    connections: int
    header: int
    headers: int
    header_time: float
    stalled_body: float
    node_connect: float
    node_answer: float
    upload: int
    features: NginxFeatures = NginxFeatures()
    processes: int = 0
    """Gateway processes, each with a socket of its own; 0: one, which runs this nginx."""


_SENTENCES: Final = {
    400: "The request is not understood",
    404: "Not found",
    405: "Method not allowed",
    411: "A PUT needs Content-Length or Transfer-Encoding: chunked",
    413: "The body is too large, or has no place here",
    414: "The address is too long",
    431: "The header is too large",
    500: "Internal error",
    501: "The transfer encoding is not known",
    503: "The store does not answer now; try again",
    505: "HTTP version not supported",
    507: "There is no space on the gateway's disk to receive the file",
}
_OWN: Final = """\
error_page 400 /.tawara/nginx/400;
error_page 404 /.tawara/nginx/404;
error_page 405 /.tawara/nginx/405;
error_page 411 /.tawara/nginx/411;
error_page 413 /.tawara/nginx/413;
error_page 414 /.tawara/nginx/414;
error_page 494 /.tawara/nginx/431;
error_page 500 /.tawara/nginx/500;
error_page 501 /.tawara/nginx/501;
error_page 502 503 504 =503 /.tawara/nginx/503;
error_page 505 /.tawara/nginx/505;
"""
_REFUSALS: Final = (400, 401, 403, 404, 405, 409, 411, 412, 413, 415, 422, 500, 503, 507)
_FAILED: Final = "400 401 403 404 405 408 409 410 416 429 500 501 502 503 504 507"


def render(conf: NginxConfiguration) -> str:
    """Render the text of the configuration."""
    user = "user root;\n" if conf.as_root else ""
    return f"""\
# Written at every start; changes are lost.
{user}daemon off;
pid {PID};
error_log {ERRORS} error;
worker_processes {conf.workers};
worker_rlimit_nofile {conf.connections * 2 + 64};
worker_shutdown_timeout 2s;
events {{
    worker_connections {conf.connections};
}}
http {{
{indent(_http(conf))}
{indent(_upstream(conf.processes))}
{indent("".join(_server(each, conf) for each in conf.listeners))}
}}
"""


def socket_name(process: int) -> str:
    """Return the name of the socket of gateway process `process`, from 1 on; 0: of the only one."""
    return f"gateway-{process}.sock" if process else SOCKET


def _upstream(processes: int) -> str:
    """Render the gateway processes. One that has ended refuses at once and is restarted, so none is ever left out."""
    names = [socket_name(number) for number in range(1, processes + 1)] or [SOCKET]
    servers = "".join(f"    server unix:{name} max_fails=0;\n" for name in names)
    return f"upstream gateway {{\n{servers}    keepalive 64;\n}}"


def _try_others(conf: NginxConfiguration) -> str:
    """Render the directive that repeats a request without effects at the next process when one has ended.

    A PUT or DELETE is not repeated: it may have been carried out, and other requests may have followed it.
    """
    return "proxy_next_upstream error;\n" if conf.processes > 1 else ""


def _http(conf: NginxConfiguration) -> str:
    """Render the directives for all requests and their subrequests."""
    return f"""\
access_log off;
{_ROUTES}{_next_places()}server_tokens off;
default_type "";
types {{ }}
variables_hash_max_size 2048;
variables_hash_bucket_size 128;
client_body_temp_path {BODIES};
proxy_temp_path temporary/proxy;
fastcgi_temp_path temporary/fastcgi;
uwsgi_temp_path temporary/uwsgi;
scgi_temp_path temporary/scgi;
sendfile on;
tcp_nopush on;
keepalive_timeout {seconds(conf.header_time)};
keepalive_requests 1000000;
client_header_timeout {seconds(conf.header_time)};
client_body_timeout {seconds(conf.stalled_body)};
send_timeout {seconds(conf.stalled_body)};
client_header_buffer_size 4k;
large_client_header_buffers {max(2, conf.headers // conf.header)} {conf.header};
client_max_body_size {conf.upload};
client_body_buffer_size 128k;
merge_slashes off;
recursive_error_pages on;
proxy_http_version 1.1;
proxy_request_buffering on;
proxy_buffer_size 16k;
proxy_buffers 8 64k;
proxy_busy_buffers_size 128k;
proxy_max_temp_file_size 0;
proxy_next_upstream off;
proxy_ignore_client_abort on;
"""


_ROUTES: Final = """\
map "$server_protocol $request_method/$content_length/$http_transfer_encoding" $tawara_route {
    default @other_method;
    "HTTP/1.1 GET//" "";
    "HTTP/1.1 HEAD//" "";
    "HTTP/2.0 GET//" "";
    "HTTP/2.0 HEAD//" "";
    "~^HTTP/0.9 " @other_version;
    "~^[^ ]+ PUT/([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])/$" @small_put;
    "~^[^ ]+ PUT/" @put;
    "~^[^ ]+ (GET|HEAD|OPTIONS)/0*/$" "";
    "~^[^ ]+ DELETE/0*/$" @delete;
    "~^[^ ]+ (GET|HEAD|DELETE|OPTIONS)/" @unwanted_body;
}
map $server_protocol $tawara_coding {
    default $http_transfer_encoding;
    HTTP/2.0 chunked;  # a body of HTTP/2 may have no length
}
"""
"""Chooses the location of a request; empty: the gateway decides. A request other than PUT must not have a body."""


def _server(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the server block of one listener."""
    blocks = [_OWN, _entry(listener, conf), _put(listener, conf), _refused(), *map(_error_response, _SENTENCES)]
    for number in range(1, REPLICAS_TRIED + 1):
        blocks += [_local(number, conf, whole=False), _local(number, conf, whole=True), _remote(number, conf)]
    blocks.append(_streamed(listener, conf))
    names = "underscores_in_headers on;\nignore_invalid_headers off;\n" if listener.any_field_names else ""
    tls = _tls(conf.features) if listener.tls else ""
    listen = f"listen {quoted(listener.listen)}{' ssl' if listener.tls else ''};\n"
    return f"server {{\n{indent(listen + tls + names + chr(10).join(blocks))}\n}}\n"


def _tls(features: NginxFeatures) -> str:
    """Render the settings of TLS: 1.2 and 1.3, with forward secrecy; a request without TLS is 400."""
    return f"""\
ssl_certificate {CHAIN};
ssl_certificate_key {KEY};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
ssl_prefer_server_ciphers off;
ssl_session_cache shared:tls:2m;
ssl_session_timeout 1h;
ssl_session_tickets off;
error_page 497 /.tawara/nginx/400;
{"http2 on;" if features.http2 else ""}
"""


def _entry(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the location that receives every request, and those of the requests that are refused there."""
    return f"""\
location / {{
    error_page 418 = $tawara_route;
{indent(_OWN)}
    if ($tawara_route) {{ return 418; }}
{indent(_to_gateway(GatewayStep.DECIDE, listener) + _try_others(conf))}
    proxy_read_timeout 60s;
}}

location @delete {{
{indent(_OWN)}
{indent(_to_gateway(GatewayStep.DECIDE, listener))}
    proxy_read_timeout 60s;
}}

location @other_version {{
    return 505;
}}

location @other_method {{
    return 405;
}}

location @unwanted_body {{
    return 413;
}}
"""


def _put(listener: Listener, conf: NginxConfiguration) -> str:
    return f"""\
location @small_put {{
{indent(_OWN)}
{indent(_to_gateway(GatewayStep.SMALL_PUT, listener))}
    proxy_read_timeout 24h;
}}

location @put {{
    auth_request /.tawara/nginx/admit;
    auth_request_set $tawara_status $upstream_http_{variable(HeaderField.STATUS)};
    auth_request_set $tawara_sentence $upstream_http_{variable(HeaderField.ERROR_TEXT)};
    auth_request_set $tawara_challenge $upstream_http_{variable(HeaderField.CHALLENGE)};
    error_page 403 = @refused;
    error_page 500 = @unreceived;
{indent(_OWN.replace("error_page 500", "#"))}
    client_body_in_file_only clean;
{indent(_to_gateway(GatewayStep.STORE, listener))}
    proxy_set_header {HeaderField.BODY} $request_body_file;
    proxy_read_timeout 24h;
}}

location = /.tawara/nginx/admit {{
    internal;
{indent(_to_gateway(GatewayStep.ADMIT, listener) + _try_others(conf))}
    proxy_set_header {HeaderField.LENGTH} $content_length;
    proxy_set_header {HeaderField.CODING} $tawara_coding;
    proxy_read_timeout 60s;
    proxy_intercept_errors on;
    error_page 400 = @unreadable;
    error_page 404 /.tawara/nginx/404;
}}

location @unreadable {{
    return 403;
}}

# More of the body may come, and fail, while the gateway is asked: the answer is not overwritten by a plain 500.
location @unreceived {{
{indent(_OWN.replace("error_page 500 /.tawara/nginx/500", "error_page 500 =507 /.tawara/nginx/507"))}
{indent(_to_gateway(GatewayStep.UNRECEIVED, listener))}
    proxy_read_timeout 60s;
}}
"""


def _streamed(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the locations of bodies that Python sends: at once, or after every replica has failed."""
    fields = "".join(
        f"proxy_set_header {name} ${_kept(name)};\n" for name in _CONDITIONS if conf.features.clears_fields
    )
    return f"""\
location {STREAM} {{
{indent(_OWN + _to_gateway(GatewayStep.STREAM, listener) + _try_others(conf))}
    proxy_read_timeout 60s;
}}

location {EXHAUSTED} {{
{indent(_OWN + _to_gateway(GatewayStep.STREAM, listener) + _try_others(conf) + fields)}
    proxy_read_timeout 60s;
}}
"""


def _to_gateway(step: GatewayStep, listener: Listener) -> str:
    """Render the directives that pass a request to the gateway, with the client's unmodified URI.

    Only a small body is passed, too.
    """
    own = {
        HeaderField.STEP: str(step),
        HeaderField.LISTENER: listener.name,
        HeaderField.BODY: '""',
        HeaderField.LENGTH: '""',
        HeaderField.CODING: '""',
        HeaderField.RANGE_REQUEST: '""',
    }
    if step is GatewayStep.DECIDE:
        own[HeaderField.RANGE_REQUEST] = '"<$http_range><$http_if_range>"'
    if step is GatewayStep.STORE:
        del own[HeaderField.BODY]
    if step is GatewayStep.ADMIT:
        del own[HeaderField.LENGTH], own[HeaderField.CODING]
    fields = "".join(f"proxy_set_header {name} {value};\n" for name, value in own.items())
    # Without a URI, proxy_pass sends that of the client at less cost. It would send a subrequest's own.
    uri = "" if step in (GatewayStep.DECIDE, GatewayStep.SMALL_PUT) else "$request_uri"
    length = "0" if step is GatewayStep.STORE else '""'
    body = f"proxy_pass_request_body off;\nproxy_set_header Content-Length {length};\n"
    return (
        f"proxy_pass http://gateway{uri};\n"
        + ("" if step is GatewayStep.SMALL_PUT else body)
        + 'proxy_set_header Host $http_host;\nproxy_set_header Connection "";\n'
        + fields
    )


def _refused() -> str:
    """Render the location for a refused PUT. Without a status, the gateway could not parse the request's header."""
    tests = "".join(
        f'    if ($tawara_status = {status}) {{ return {status} "$tawara_sentence\\n"; }}\n' for status in _REFUSALS
    )
    return f"""\
location @refused {{
    default_type text/plain;
    add_header WWW-Authenticate $tawara_challenge always;
{tests}    return 400 "{_SENTENCES[400]}\\n";
}}
"""


def _error_response(status: int) -> str:
    allow = f'    add_header Allow "{METHODS}" always;\n' if status == 405 else ""
    return (
        f"location = /.tawara/nginx/{status} {{\n    internal;\n    default_type text/plain;\n{allow}"
        f'    return {status} "{_SENTENCES[status]}\\n";\n}}\n'
    )


_ENTITY_FIELDS: Final = {
    "ETag": HeaderField.ETAG,
    "Last-Modified": HeaderField.MODIFIED,
    "Content-Type": HeaderField.TYPE,
    **{name: slot(name) for name in SLOTS},
}
"""Response fields of a file, with the fields in which the gateway gives them."""
_CONDITIONS: Final = ("Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")


def _saved_fields() -> str:
    """Render the directives that save the gateway's response fields, which a request to a storage node overwrites."""
    fields = [*_ENTITY_FIELDS.values(), HeaderField.RANGE, HeaderField.DEVICE]
    for number in range(1, REPLICAS_TRIED + 1):
        fields += [url(number), signature(number)]
        if number > 1:
            fields.append(place(number))
    return "".join(f"set ${variable(field)} $upstream_http_{variable(field)};\n" for field in fields)


def _next(number: int) -> str:
    return EXHAUSTED if number == REPLICAS_TRIED else f"$tawara_next_{number + 1}"


def _next_places() -> str:
    """Render the maps to the place of a replica. It is empty if a client requests an internal location by its path."""
    return "".join(
        f"map ${variable(place(number))} $tawara_next_{number} {{\n    default ${variable(place(number))};\n"
        f'    "" /.tawara/nginx/404;\n}}\n'
        for number in range(2, REPLICAS_TRIED + 1)
    )


def _entity(prefix: str) -> str:
    """Render the fields of the file from the variables with `prefix`.

    nginx's own conditions are disabled, since the gateway has evaluated them; the range filter uses these fields.
    """
    fields = "".join(f"add_header {name} {prefix}{variable(field)};\n" for name, field in _ENTITY_FIELDS.items())
    return f"etag off;\nif_modified_since off;\n{fields}add_header X-Content-Type-Options nosniff;\n"


def _clear_conditions(conf: NginxConfiguration, number: int, range_: str | None) -> str:
    """Render the directives that replace the client's conditions and range by the range that the gateway accepted."""
    if not conf.features.clears_fields:
        return ""
    keep = "".join(f"set ${_kept(name)} $http_{variable(name)};\n" for name in _CONDITIONS) if number == 1 else ""
    cleared = [name for name in _CONDITIONS if name != "Range" or range_ is None]
    new = f'more_set_input_headers "Range: {range_}";\n' if range_ else ""
    return f"{keep}more_clear_input_headers {' '.join(cleared)};\n{new}"


def _kept(name: str) -> str:
    """Return the variable with a condition of the client's request."""
    return f"client_{variable(name)}"


def _local(number: int, conf: NginxConfiguration, *, whole: bool) -> str:
    # Before the first request to a storage node the gateway's fields need not be saved.
    prefix = "$upstream_http_" if number == 1 else "$"
    following = "@after_local" if number == 1 else _next(number)
    range_ = None if whole else f"{prefix}{variable(HeaderField.RANGE)}"
    text = f"""\
location {local_place(number, "/", partial=not whole)} {{
    internal;
{indent(_clear_conditions(conf, number, range_))}
    error_page {_FAILED} = {following};
    alias {DEVICES}/;
    disable_symlinks on from=$document_root{prefix}{variable(HeaderField.DEVICE)};
    max_ranges {0 if whole else 1};
    add_header Accept-Ranges bytes;
{indent(_entity(prefix))}
}}
"""
    if number > 1 or not whole:
        return text
    return f"""\
{text}
# The first replica is a local file that could not be read.
location {following} {{
{indent(_saved_fields())}
    error_page 418 = {_next(number)};
    return 418;
}}
"""


def _remote(number: int, conf: NginxConfiguration) -> str:
    return f"""\
location {remote_place(number)} {{
{indent(_saved_fields() + _clear_conditions(conf, number, "") if number == 1 else "")}
    error_page {_FAILED} = {_next(number)};
    proxy_intercept_errors on;
    proxy_pass ${variable(url(number))};
    proxy_pass_request_headers off;
    proxy_pass_request_body off;
    proxy_set_header Host $proxy_host;
    proxy_set_header Range ${variable(HeaderField.RANGE)};
    proxy_set_header {SIGNATURE} ${variable(signature(number))};
    proxy_set_header Content-Length "";
    proxy_connect_timeout {seconds(conf.node_connect)};
    proxy_read_timeout {seconds(conf.node_answer)};
    proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
{indent("".join(f"proxy_hide_header {name};{chr(10)}" for name in (*_ENTITY_FIELDS, "Accept-Ranges", "Set-Cookie")))}
    add_header Accept-Ranges bytes;
{indent(_entity("$"))}
}}
"""
