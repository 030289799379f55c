"""Renders the parts of nginx's configuration for applications.

An application answers with `X-Accel-Redirect: /_tawara/DOMAIN/KEY`. In that internal location nginx asks the gateway
for the file's replicas, by GatewayStep.FILE, and then continues as for a client's GET. So two of nginx's ten internal
redirects are used, and one more for each replica that fails.

An application must not name the places of replicas itself: they would send any file of a device, or of another server.
The places of a server block with applications answer only after the gateway was asked (DECIDED).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tawara.gateway.nginx_protocol import GatewayStep, HeaderField
from tawara.gateway.nginx_text import indent, quoted, variable
from tawara.model.applications import Application

NAMED: Final = "/_tawara/"
"""Prefix of the paths by which applications name files."""
EXHAUSTED: Final = "@file_exhausted"
STREAM: Final = "@file_stream"
"""As nginx_protocol.EXHAUSTED and STREAM, for files that applications name."""
DECIDED: Final = "tawara_decided"
"""Variable that is 1 after nginx has asked the gateway for the places of replicas."""
GUARD: Final = f'if (${DECIDED} = "") {{ return 404; }}\n'
"""Beginning of a location that must not be named by an application."""
SET: Final = f"set ${DECIDED} 1;\n"
KEPT_FIELDS: Final = (
    "Content-Encoding", "Content-Language", "Content-Security-Policy", "Cross-Origin-Resource-Policy", "Link",
    "Referrer-Policy", "Vary", "X-Frame-Options", "X-Robots-Tag", "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers",
)  # fmt: skip
"""Fields of an application's response that are sent with the file. nginx itself keeps Content-Type,
Content-Disposition, Cache-Control, Expires and Set-Cookie; ETag and Last-Modified are the file's."""
_CONDITIONS: Final = ("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
_FAILURES: Final = "400 403 404 412 416 500 503"
_DOWN: Final = "/.tawara/nginx/application"


def render_upstreams(applications: Sequence[Application]) -> str:
    """Render an upstream for each application."""
    return "".join(
        f"""\
upstream application_{each.number} {{
    server {quoted(each.upstream)} max_fails=0;
    keepalive 16;
}}
"""
        for each in applications
    )


def render_server(application: Application, listen: str, shared: str) -> str:
    """Render the server block of an application that has a host name; `shared`: see render_locations."""
    text = f"{listen}server_name {application.host};\n{_location('/', application)}{shared}"
    return f"server {{\n{indent(text)}\n}}\n"


def render_paths(applications: Sequence[Application]) -> str:
    """Render the locations of the applications that have a path."""
    return "".join(
        f"location = {each.path[:-1]} {{\n    return 308 $uri/$is_args$args;\n}}\n{_location(each.path, each)}"
        for each in applications
        if each.path
    )


def _location(path: str, application: Application) -> str:
    """Render the location of an application's own requests; some pass through the gateway's process."""
    target = f"proxy_pass http://application_{application.number};"
    if application.reproxy:
        step = {HeaderField.STEP: str(GatewayStep.APPLICATION), HeaderField.APPLICATION: str(application.number)}
        target = "\n".join(["proxy_pass http://gateway;", *(f"proxy_set_header {n} {v};" for n, v in step.items())])
    return f"""\
location {path} {{
    set $tawara_application {application.number};
    error_page 413 /.tawara/nginx/413;
    error_page 502 504 =503 {_DOWN};
{indent(target)}
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Proxy-Capabilities "";
    proxy_ignore_client_abort off;
    proxy_read_timeout 300s;
}}
"""


def render_locations(ask: str, stream: str, after_failures: str, *, clears_fields: bool) -> str:
    """Render the locations of the files that applications name; a server block needs them once.

    The directives `ask` pass a request to the gateway by FILE, those of `stream` and `after_failures` by FILE_STREAM.
    `clears_fields`: see NginxFeatures.
    """
    kept = "".join(f"set ${_kept(name)} $upstream_http_{variable(name)};\n" for name in (*KEPT_FIELDS, "Content-Type"))
    # An error must not be cached for as long as the file, or be saved under its name. By patterns, since the module
    # would add an empty Cache-Control where none was.
    names = "'Cache-Control*' 'Expires*' 'Content-Disposition*'"
    clear = f"more_clear_headers -s '{_FAILURES}' {names};\n" if clears_fields else ""
    return f"""\
location {NAMED} {{
    internal;
{indent(SET + kept + clear + ask)}
}}

location {STREAM} {{
{indent(GUARD + f"set ${variable(HeaderField.TARGET)} $upstream_http_{variable(HeaderField.TARGET)};" + chr(10))}
{indent(stream + kept_fields())}
}}

location {EXHAUSTED} {{
{indent(GUARD + after_failures + kept_fields() + clear)}
}}

location = {_DOWN} {{
    internal;
    default_type text/plain;
    return 503 "The application does not answer\\n";
}}
"""


def kept_fields() -> str:
    """Render the directives that add the application's fields to a file; empty ones are not sent."""
    return "".join(f"add_header {name} ${_kept(name)};\n" for name in KEPT_FIELDS)


def request_fields(step: GatewayStep) -> str:
    """Render the fields of the request to the gateway about a file; of the client's only range and conditions."""
    fields = {
        "Host": "tawara",
        "Connection": '""',
        "Content-Length": '""',
        HeaderField.STEP: str(step),
        HeaderField.APPLICATION: "$tawara_application",
        HeaderField.KEPT_TYPE: f"${_kept('Content-Type')}",
        HeaderField.RANGE_REQUEST: '"<$http_range><$http_if_range>"' if step is GatewayStep.FILE else '""',
    }
    return "proxy_pass_request_headers off;\nproxy_pass_request_body off;\n" + "".join(
        f"proxy_set_header {name} {value};\n" for name, value in fields.items()
    )


def conditions(prefix: str) -> str:
    """Render the client's range and conditions, from the variables with `prefix`."""
    return "".join(f"proxy_set_header {name} ${prefix}{variable(name)};\n" for name in _CONDITIONS)


def _kept(name: str) -> str:
    return f"application_{variable(name)}"
