"""Renders nginx's configuration from one value; it contains no data of requests and no paths chosen by users.

nginx runs with the directory of its files as working directory, so every path is relative and short: `gateway.sock`,
where the gateway listens, and `devices`, a link to the directory of this machine's devices.

GET: the gateway answers with `X-Accel-Redirect: @whole_1` (`@part_1`, `@remote_1`) and the next choices in
`X-Tawara-Place-2`, …; each place is a location that sends one replica or, if that fails, redirects to the next. PUT:
`auth_request` asks the gateway before the body is read, nginx receives the body into a file, and the gateway gets its
path. `HeaderField` has the names of the header fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tawara.gateway.spool import BODIES
from tawara.model.limits import REPLICAS_TRIED

SOCKET: Final = "gateway.sock"
DEVICES: Final = "devices"
PID: Final = "nginx.pid"
ERRORS: Final = "error.log"
EXHAUSTED: Final = "@exhausted"
METHODS: Final = "GET, HEAD, PUT, DELETE, OPTIONS"


class HeaderField(StrEnum):
    """The header fields between the gateway and nginx. nginx never forwards a client's field of these names."""

    STEP = "X-Tawara-Step"
    BODY = "X-Tawara-Body"
    LENGTH = "X-Tawara-Length"
    CODING = "X-Tawara-Coding"
    STATUS = "X-Tawara-Status"
    ERROR_TEXT = "X-Tawara-Error"
    CHALLENGE = "X-Tawara-Challenge"
    ETAG = "X-Tawara-Etag"
    MODIFIED = "X-Tawara-Modified"
    TYPE = "X-Tawara-Type"
    RANGE = "X-Tawara-Range"
    RANGE_REQUEST = "X-Tawara-Range-Request"
    """Range and If-Range as nginx parses them, between `<` and `>`: it treats some whitespace as part of a value."""


class GatewayStep(StrEnum):
    """The step of a request for which nginx calls the gateway."""

    DECIDE = "decide"
    """Answer the request, or return the location of its bytes."""
    ADMIT = "admit"
    """Check a PUT before its body is received."""
    STORE = "store"
    """Store the body of a PUT, which is in the file named by HeaderField.BODY."""
    STREAM = "stream"
    """Send the body of a GET that nginx could not read from the given replicas; the file may be replaced by now."""
    UNRECEIVED = "unreceived"
    """Answer a PUT whose body could not be received."""


def place(number: int) -> str:
    """Return the name of the header field with the place of replica `number`, from 2 on."""
    return f"X-Tawara-Place-{number}"


def path(number: int) -> str:
    """Return the name of the header field with the path of replica `number`."""
    return f"X-Tawara-Path-{number}"


def host(number: int) -> str:
    """Return the name of the header field with the address and port of replica `number`, if it is remote."""
    return f"X-Tawara-Host-{number}"


@dataclass(frozen=True, slots=True)
class NginxConfiguration:
    """The parameters of the configuration. Sizes are in bytes, times in seconds."""

    listen: str
    """`ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH` of the socket that nginx inherits."""
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
error_page 502 503 504 /.tawara/nginx/503;
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
{_indent(_http(conf))}
    upstream gateway {{
        server unix:{SOCKET} max_fails=0;
        keepalive 64;
    }}
    server {{
        listen {_quoted(conf.listen)};
{_indent(_server(conf), 8)}
    }}
}}
"""


def _http(conf: NginxConfiguration) -> str:
    """Render the directives for all requests and their subrequests."""
    return f"""\
access_log off;
{_devices()}server_tokens off;
default_type "";
types {{ }}
client_body_temp_path {BODIES};
proxy_temp_path temporary/proxy;
fastcgi_temp_path temporary/fastcgi;
uwsgi_temp_path temporary/uwsgi;
scgi_temp_path temporary/scgi;
sendfile on;
tcp_nopush on;
keepalive_timeout {_seconds(conf.header_time)};
client_header_timeout {_seconds(conf.header_time)};
client_body_timeout {_seconds(conf.stalled_body)};
send_timeout {_seconds(conf.stalled_body)};
client_header_buffer_size 4k;
large_client_header_buffers {max(2, conf.headers // conf.header)} {conf.header};
client_max_body_size {conf.upload};
client_body_buffer_size 128k;
ignore_invalid_headers on;
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


def _devices() -> str:
    """Render the map from a local replica to its device's directory, the only one that may be a symbolic link."""
    return "".join(
        f"map ${_variable(path(number))} $tawara_device_{number} {{\n"
        f"    default /;\n    ~^(?<d{number}>/dev[0-9]+)/ $d{number};\n}}\n"
        for number in range(1, REPLICAS_TRIED + 1)
    )


def _server(conf: NginxConfiguration) -> str:
    blocks = [_OWN, _entry(), _put(conf), _refused(), *map(_error_response, _SENTENCES)]
    for number in range(1, REPLICAS_TRIED + 1):
        blocks += [_local(number, whole=False), _local(number, whole=True), _remote(number, conf)]
    blocks.append(
        f"location {EXHAUSTED} {{\n{_indent(_OWN + _to_gateway(GatewayStep.STREAM))}\n    proxy_read_timeout 60s;\n}}\n"
    )
    return "\n".join(blocks)


def _entry() -> str:
    """Render the location that receives every request; a request other than PUT must not have a body."""
    return f"""\
location / {{
    error_page 418 = @put;
{_indent(_OWN)}
    if ($server_protocol = HTTP/0.9) {{ return 505; }}
    if ($request_method = PUT) {{ return 418; }}
    if ($request_method !~ ^(GET|HEAD|DELETE|OPTIONS)$) {{ return 405; }}
    if ($content_length !~ ^0*$) {{ return 413; }}
    if ($http_transfer_encoding) {{ return 413; }}
{_indent(_to_gateway(GatewayStep.DECIDE))}
    proxy_read_timeout 60s;
}}
"""


def _put(conf: NginxConfiguration) -> str:
    return f"""\
location @put {{
    auth_request /.tawara/nginx/admit;
    auth_request_set $tawara_status $upstream_http_{_variable(HeaderField.STATUS)};
    auth_request_set $tawara_sentence $upstream_http_{_variable(HeaderField.ERROR_TEXT)};
    auth_request_set $tawara_challenge $upstream_http_{_variable(HeaderField.CHALLENGE)};
    error_page 403 = @refused;
    error_page 500 = @unreceived;
{_indent(_OWN.replace("error_page 500", "#"))}
    client_body_in_file_only clean;
{_indent(_to_gateway(GatewayStep.STORE))}
    proxy_set_header {HeaderField.BODY} $request_body_file;
    proxy_read_timeout 24h;
}}

location = /.tawara/nginx/admit {{
    internal;
{_indent(_to_gateway(GatewayStep.ADMIT))}
    proxy_set_header {HeaderField.LENGTH} $content_length;
    proxy_set_header {HeaderField.CODING} $http_transfer_encoding;
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
{_indent(_OWN.replace("error_page 500 /.tawara/nginx/500", "error_page 500 =507 /.tawara/nginx/507"))}
{_indent(_to_gateway(GatewayStep.UNRECEIVED))}
    proxy_read_timeout 60s;
}}
"""


def _to_gateway(step: GatewayStep) -> str:
    """Render the directives that pass a request to the gateway, with the client's unmodified URI and no body."""
    own = {
        HeaderField.STEP: str(step),
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
    return (
        "proxy_pass http://gateway$request_uri;\nproxy_pass_request_body off;\n"
        'proxy_set_header Host $http_host;\nproxy_set_header Connection "";\nproxy_set_header Content-Length "";\n'
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


def _saved_fields() -> str:
    """Render the directives that save the gateway's response fields, which a request to a storage node overwrites."""
    fields: list[str] = [HeaderField.ETAG, HeaderField.MODIFIED, HeaderField.TYPE, HeaderField.RANGE]
    for number in range(1, REPLICAS_TRIED + 1):
        fields += [path(number), host(number)]
        if number > 1:
            fields.append(place(number))
    return "".join(f"set ${_variable(field)} $upstream_http_{_variable(field)};\n" for field in fields)


def _next(number: int) -> str:
    return EXHAUSTED if number == REPLICAS_TRIED else f"${_variable(place(number + 1))}"


_ENTITY: Final = """\
etag off;
if_modified_since off;
add_header ETag $x_tawara_etag;
add_header Last-Modified $x_tawara_modified;
add_header Content-Type $x_tawara_type;
add_header X-Content-Type-Options nosniff;
"""
"""Disables nginx's own conditions, since the gateway has evaluated them; the range filter uses these fields."""


def _local(number: int, *, whole: bool) -> str:
    name = f"@{'whole' if whole else 'part'}_{number}"
    return f"""\
location {name} {{
{_indent(_saved_fields() if number == 1 else "")}
    error_page {_FAILED} = {_next(number)};
    root {DEVICES};
    disable_symlinks on from=$document_root$tawara_device_{number};
    max_ranges {0 if whole else 1};
    add_header Accept-Ranges bytes;
    rewrite ^ ${_variable(path(number))} break;
{_indent(_ENTITY)}
}}
"""


def _remote(number: int, conf: NginxConfiguration) -> str:
    address = f"${_variable(host(number))}"
    return f"""\
location @remote_{number} {{
{_indent(_saved_fields() if number == 1 else "")}
    error_page {_FAILED} = {_next(number)};
    proxy_intercept_errors on;
    proxy_pass http://{address}${_variable(path(number))};
    proxy_pass_request_headers off;
    proxy_pass_request_body off;
    proxy_set_header Host {address};
    proxy_set_header Range $x_tawara_range;
    proxy_set_header Content-Length "";
    proxy_connect_timeout {_seconds(conf.node_connect)};
    proxy_read_timeout {_seconds(conf.node_answer)};
    proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering X-Accel-Charset;
    proxy_hide_header ETag;
    proxy_hide_header Last-Modified;
    proxy_hide_header Content-Type;
    proxy_hide_header Accept-Ranges;
    proxy_hide_header Set-Cookie;
    add_header Accept-Ranges bytes;
{_indent(_ENTITY)}
}}
"""


def _variable(field: str) -> str:
    return field.lower().replace("-", "_")


def _seconds(value: float) -> str:
    return f"{max(1, round(value * 1000))}ms"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _indent(text: str, by: int = 4) -> str:
    return "\n".join(" " * by + line if line else "" for line in text.rstrip("\n").split("\n"))
