"""Renders nginx's configuration from one value; it contains no data of requests and no paths chosen by users.

nginx runs with the directory of its files as working directory, so every path is relative and short: `gateway.sock`,
where the gateway listens, and `devices`, a link to the directory of this machine's devices.

GET: the gateway answers with the place of the first replica in `X-Accel-Redirect` and the next choices in
`X-Tawara-Place-2`, …; a place is a location that sends one replica or, if that fails, redirects to the next. PUT: a
small body is sent to the gateway with the request. Before a larger body is read, `auth_request` asks the gateway, nginx
receives the body into a file, and the gateway gets its path. `HeaderField` has the names of the header fields.

Each protocol has a server block, an upstream and a socket of its own. Those of S3 and WebDAV pass bodies that nginx
cannot store as they are (framed by aws-chunked, or of other methods than PUT) to the gateway while they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tawara.gateway import nginx_applications, nginx_balancer, nginx_cache
from tawara.gateway.nginx_protocol import (
    EXHAUSTED,
    METHODS,
    SLOTS,
    STREAM,
    GatewayStep,
    HeaderField,
    cached_place,
    local_place,
    place,
    remote_place,
    signature,
    slot,
    url,
)
from tawara.gateway.nginx_routes import ROUTES, ListenerProtocol
from tawara.gateway.nginx_text import indent, quoted, seconds, variable
from tawara.gateway.spool import BODIES
from tawara.model.applications import Application
from tawara.model.cache_settings import CacheSettings
from tawara.model.limits import REPLICAS_TRIED
from tawara.wire.signatures import FIELD as SIGNATURE

DEVICES: Final = "devices"
PID: Final = "nginx.pid"
ERRORS: Final = "error.log"
CHAIN: Final = "tls.crt"
KEY: Final = "tls.key"
SCRIPT: Final = "fields.js"


@dataclass(frozen=True, slots=True)
class NginxFeatures:
    """What an nginx can do beyond what every supported version can."""

    clears_fields: bool = False
    """Whether it can remove fields of a request (headers-more), and so its own evaluation of conditions."""
    http2: bool = False
    """Whether it speaks HTTP/2, by the directive `http2`."""
    scripts: bool = False
    """Whether it runs scripts (njs), which can set response fields of any name."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One server block: a protocol that the gateway speaks, with an address of its own."""

    listen: str
    """`ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH` of the socket that nginx inherits."""
    protocol: ListenerProtocol = ListenerProtocol.HTTP
    """Value of HeaderField.LISTENER for the requests of this listener."""
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
    applications: Sequence[Application] = ()
    """Applications behind the listener of HTTP."""
    cache: CacheSettings | None = None
    """The cache of files of other machines."""


@dataclass(frozen=True, slots=True)
class PlaceVariant:
    """How the places of replicas of a server block are rendered."""

    scripted: bool = False
    """Whether a script adds the response fields that have no slot."""
    guarded: bool = False
    """Whether the server block has applications, which must not name the places (nginx_applications)."""
    slots: bool = True
    """Whether fields may come by SLOTS; files that applications name have none."""


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
_S3_CODES: Final = {
    400: "BadRequest",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    411: "MissingContentLength",
    413: "EntityTooLarge",
    414: "InvalidURI",
    431: "RequestHeaderSectionTooLarge",
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
    505: "InvalidRequest",
    507: "SlowDown",
}
"""Codes of S3's error answers that nginx makes itself; SDKs repeat a request after SlowDown."""
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
{indent(chr(10).join(_upstream(each.protocol, conf.processes) for each in conf.listeners))}
{indent(nginx_applications.render_upstreams(conf.applications))}
{indent("".join(_servers(each, conf) for each in conf.listeners))}
{indent(_cache(conf))}
}}
"""


def socket_name(process: int, protocol: ListenerProtocol = ListenerProtocol.HTTP) -> str:
    """Return the name of a protocol's socket of gateway process `process`, from 1 on; 0: of the only one."""
    return f"{protocol.upstream}-{process}.sock" if process else f"{protocol.upstream}.sock"


def _upstream(protocol: ListenerProtocol, processes: int) -> str:
    """Render the gateway processes. One that has ended refuses at once and is restarted, so none is ever left out."""
    numbers = range(1, processes + 1) if processes else (0,)
    servers = "".join(f"    server unix:{socket_name(number, protocol)} max_fails=0;\n" for number in numbers)
    return f"upstream {protocol.upstream} {{\n{servers}    keepalive 64;\n}}"


def _try_others(conf: NginxConfiguration) -> str:
    """Render the directive that repeats a request without effects at the next process when one has ended.

    A PUT or DELETE is not repeated: it may have been carried out, and other requests may have followed it.
    """
    return "proxy_next_upstream error;\n" if conf.processes > 1 else ""


def _http(conf: NginxConfiguration) -> str:
    """Render the directives for all requests and their subrequests."""
    return f"""\
access_log off;
{_routes(conf)}{_next_places()}server_tokens off;
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


def _routes(conf: NginxConfiguration) -> str:
    """Render the maps that choose the locations of requests, and the import of the script."""
    protocols = dict.fromkeys([ListenerProtocol.HTTP, *(each.protocol for each in conf.listeners)])
    scripted = conf.features.scripts and ListenerProtocol.S3 in protocols
    script = f"js_import fields from {SCRIPT};\n" if scripted else ""
    return script + "".join(ROUTES[each] for each in protocols)


def _servers(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the server blocks of one listener: its own, which is the default, and those of applications."""
    applications = conf.applications if listener.protocol is ListenerProtocol.HTTP else ()
    on_paths = [each for each in applications if each.path]
    errors = [_error_response(status, listener) for status in _SENTENCES]
    blocks = [_OWN, _entry(listener, conf, guarded=bool(on_paths)), _put(listener, conf), _refused(listener), *errors]
    blocks += _places(conf, PlaceVariant(guarded=bool(on_paths)))
    if listener.protocol is ListenerProtocol.S3 and conf.features.scripts:
        blocks += _places(conf, PlaceVariant(scripted=True))
    blocks.append(_streamed(listener, conf))
    if on_paths:
        blocks += [nginx_applications.render_paths(on_paths), application_files(conf)]
    listen = _listen(listener, conf)
    own = f"server {{\n{indent(listen + chr(10).join(blocks))}\n}}\n"
    shared = chr(10).join([_OWN, *errors, *_places(conf, PlaceVariant(guarded=True)), application_files(conf)])
    return own + "".join(nginx_applications.render_server(each, listen, shared) for each in applications if each.host)


def _cache(conf: NginxConfiguration) -> str:
    """Render the cache, and where other gateways read it."""
    if conf.cache is None:
        return ""
    return nginx_cache.render_zone(conf.cache) + nginx_cache.render_peer_server(conf.cache, _fetch(conf))


def _places(conf: NginxConfiguration, variant: PlaceVariant) -> list[str]:
    """Render the places of replicas."""
    blocks = []
    for number in range(1, REPLICAS_TRIED + 1):
        blocks += [_local(number, conf, variant, whole=whole) for whole in (False, True)]
        blocks.append(_remote(number, conf, variant))
    if conf.cache is not None and not variant.scripted:
        blocks += [_cached(conf, variant, partial=partial) for partial in (False, True)]
    return blocks


def render_for_balancer(conf: NginxConfiguration, gateway: str, key_file: str) -> str:
    """Render what an nginx that is not ours needs for `conf.applications`, in its block `http`.

    `gateway`: address at which the gateway answers balancers; `key_file`: path of a file with the directive that sends
    an access key.
    """
    variant = PlaceVariant(guarded=True, slots=False)
    shared = [nginx_balancer.SETTINGS, _OWN, *(_error_response(status, conf.listeners[0]) for status in _SENTENCES)]
    shared += [_remote(number, conf, variant) for number in range(1, REPLICAS_TRIED + 1)]
    shared.append(application_files(conf, nginx_balancer.UPSTREAM, f"include {quoted(key_file)};\n"))
    listen = _listen(conf.listeners[0], conf)
    servers = [nginx_applications.render_server(each, listen, "\n".join(shared)) for each in conf.applications]
    upstreams = nginx_balancer.render_upstream(gateway) + nginx_applications.render_upstreams(conf.applications)
    return nginx_balancer.head(key_file) + upstreams + _next_places() + "".join(servers)


def application_files(
    conf: NginxConfiguration, upstream: str = ListenerProtocol.HTTP.upstream, authorization: str = ""
) -> str:
    """Render the locations of the files that applications name.

    `upstream`: where the gateway is asked; `authorization`: directives that authorise these requests.
    """
    apps, clears = nginx_applications, conf.features.clears_fields
    ask = apps.request_fields(GatewayStep.FILE) + authorization + apps.conditions("http_") + _try_others(conf)
    stream = apps.request_fields(GatewayStep.FILE_STREAM) + authorization + _try_others(conf)
    to_target = f"proxy_pass http://{upstream}${variable(HeaderField.TARGET)};\n{stream}"
    return apps.render_locations(
        f"proxy_pass http://{upstream}/;\n{ask}",
        to_target + apps.conditions("http_"),
        to_target + apps.conditions("client_" if clears else "http_"),
        clears_fields=clears,
    )


def _listen(listener: Listener, conf: NginxConfiguration) -> str:
    """Render where and how a server block listens."""
    tls = _tls(listener, conf.features) if listener.tls else ""
    listen = f"listen {quoted(listener.listen)}{' ssl' if listener.tls else ''};\n"
    own = _S3_SETTINGS if listener.protocol is ListenerProtocol.S3 else ""
    return listen + tls + own


_S3_SETTINGS: Final = f"""\
underscores_in_headers on;
ignore_invalid_headers off;
error_log {ERRORS} emerg;
client_max_body_size 0;
"""
"""User metadata may have any name. nginx writes request lines into its error log, and presigned URLs are secrets: only
what concerns no request is logged. The gateway limits bodies, whose length the framing adds to."""


def _tls(listener: Listener, features: NginxFeatures) -> str:
    """Render the settings of TLS: 1.2 and 1.3, with forward secrecy; a request without TLS is 400.

    S3 and WebDAV are spoken over HTTP/1.1 only, as their clients do: a body then always has a length or a framing.
    """
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
{"http2 on;" if features.http2 and listener.protocol is ListenerProtocol.HTTP else ""}
"""


def _entry(listener: Listener, conf: NginxConfiguration, *, guarded: bool) -> str:
    """Render the location that receives every request, and those of the requests that are refused there."""
    decided = indent(nginx_applications.SET) if guarded else ""
    return f"""\
location / {{
    error_page 418 = {listener.protocol.route};
{indent(_OWN)}
    if ({listener.protocol.route}) {{ return 418; }}
{decided}
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

{_with_body(listener, conf) if listener.protocol.passes_bodies else _OTHERS}
"""


_OTHERS: Final = """\
location @other_method {
    return 405;
}

location @unwanted_body {
    return 413;
}
"""


def _with_body(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the location of requests whose bodies are passed on while they arrive."""
    return f"""\
location @body {{
{indent(_OWN)}
{indent(_to_gateway(GatewayStep.BODY, listener) + _unbuffered(conf))}
}}
"""


def _unbuffered(conf: NginxConfiguration) -> str:
    """Render the directives for a body that is passed on while it arrives; the gateway notices first if it stalls."""
    return f"""\
proxy_request_buffering off;
proxy_buffering off;
client_body_timeout {seconds(conf.stalled_body + _LATER)};
proxy_read_timeout 24h;
"""


_LATER: Final = 5.0
"""Seconds after which nginx closes the connection of a client that stalls, if the gateway has not answered it."""


_VERDICT: Final = f"""\
auth_request_set $tawara_status $upstream_http_{variable(HeaderField.STATUS)};
auth_request_set $tawara_sentence $upstream_http_{variable(HeaderField.ERROR_TEXT)};
auth_request_set $tawara_challenge $upstream_http_{variable(HeaderField.CHALLENGE)};
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
{indent("" if listener.protocol.passes_bodies else _VERDICT)}
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
{_refused_by_gateway(listener, conf) if listener.protocol.passes_bodies else ""}
"""


def _refused_by_gateway(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the location for a refused PUT that the gateway answers itself, since its errors have bodies of XML.

    The request is passed on with its body, as far as it arrives before the answer: nginx would read all of it first.
    """
    return f"""\
location @refused {{
{indent(_OWN)}
{indent(_to_gateway(GatewayStep.UNRECEIVED, listener, with_body=True) + _unbuffered(conf))}
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


_LENGTH_FIELDS: Final = {HeaderField.LENGTH: "$content_length", HeaderField.CODING: "$tawara_coding"}
"""What nginx knows of a body that it does not pass on."""
_WITHOUT_BODY: Final = (GatewayStep.ADMIT, GatewayStep.STORE, GatewayStep.UNRECEIVED, GatewayStep.STREAM)
"""Steps of requests that may have a body which is not passed on."""


def _to_gateway(step: GatewayStep, listener: Listener, *, with_body: bool = False) -> str:
    """Render the directives that pass a request to the gateway, with the client's unmodified URI.

    The body is passed, too, if it is small or passed while it arrives; see also `with_body`.
    """
    with_body = with_body or step in (GatewayStep.SMALL_PUT, GatewayStep.BODY)
    own = {
        HeaderField.STEP: str(step),
        HeaderField.LISTENER: str(listener.protocol),
        HeaderField.BODY: '""',
        HeaderField.LENGTH: '""',
        HeaderField.CODING: '""',
        HeaderField.RANGE_REQUEST: '""',
        HeaderField.PEER: "$remote_addr",
    }
    if step is GatewayStep.DECIDE:
        own[HeaderField.RANGE_REQUEST] = '"<$http_range><$http_if_range>"'
    if step is GatewayStep.STORE:
        del own[HeaderField.BODY]
    if step in _WITHOUT_BODY and not with_body:
        own |= _LENGTH_FIELDS
    if listener.protocol is ListenerProtocol.S3:
        own |= {HeaderField.EXPECT: "$http_expect", HeaderField.CONNECTION: "$http_connection"}
    fields = "".join(f"proxy_set_header {name} {value};\n" for name, value in own.items())
    # Without a URI, proxy_pass sends that of the client at less cost. It would send a subrequest's own.
    uri = "" if step in (GatewayStep.DECIDE, GatewayStep.SMALL_PUT, GatewayStep.BODY) else "$request_uri"
    length = "0" if step is GatewayStep.STORE else '""'
    body = f"proxy_pass_request_body off;\nproxy_set_header Content-Length {length};\n"
    return (
        f"proxy_pass http://{listener.protocol.upstream}{uri};\n"
        + ("" if with_body else body)
        + 'proxy_set_header Host $http_host;\nproxy_set_header Connection "";\n'
        + fields
    )


def _refused(listener: Listener) -> str:
    """Render the location for a refused PUT. Without a status, the gateway could not parse the request's header."""
    if listener.protocol.passes_bodies:
        return ""
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


def _error_response(status: int, listener: Listener) -> str:
    """Render the location of an error that nginx answers itself, in the form of the protocol."""
    own, media_type, text = "", "text/plain", f"{_SENTENCES[status]}\\n"
    if listener.protocol is ListenerProtocol.S3:
        own = "    add_header x-amz-request-id $request_id always;\n"
        media_type = "application/xml"
        text = (
            '<?xml version=\\"1.0\\" encoding=\\"UTF-8\\"?>\\n'
            f"<Error><Code>{_S3_CODES[status]}</Code><Message>{_SENTENCES[status]}</Message>"
            "<RequestId>$request_id</RequestId></Error>"
        )
    elif status == 405 and listener.protocol is ListenerProtocol.HTTP:
        own = f'    add_header Allow "{METHODS}" always;\n'
    return (
        f"location = /.tawara/nginx/{status} {{\n    internal;\n    default_type {media_type};\n{own}"
        f'    return {status} "{text}";\n}}\n'
    )


_ENTITY_FIELDS: Final = {
    "ETag": HeaderField.ETAG,
    "Last-Modified": HeaderField.MODIFIED,
    "Content-Type": HeaderField.TYPE,
    **{name: slot(name) for name in SLOTS},
}
"""Response fields of a file, with the fields in which the gateway gives them."""
_VALIDATORS: Final = ("ETag", "Last-Modified", "Content-Type")
_CONDITIONS: Final = ("Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")


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


def _next_places() -> str:
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
    keep = "".join(f"set ${_kept(name)} $http_{variable(name)};\n" for name in _CONDITIONS) if number == 1 else ""
    cleared = [name for name in _CONDITIONS if name != "Range" or range_ is None]
    new = f'more_set_input_headers "Range: {range_}";\n' if range_ else ""
    return f"{keep}more_clear_input_headers {' '.join(cleared)};\n{new}"


def _guard(variant: PlaceVariant) -> str:
    return nginx_applications.GUARD if variant.guarded else ""


def _kept(name: str) -> str:
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
    error_page {_FAILED} = {following};
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


def _remote(number: int, conf: NginxConfiguration, variant: PlaceVariant) -> str:
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
error_page {_FAILED} = {_next(number)};
proxy_pass ${variable(url(number))};
proxy_set_header {SIGNATURE} ${variable(signature(number))};
{_fetch(conf)}
add_header Accept-Ranges bytes;
{_entity("$", variant)}"""


def _fetch(conf: NginxConfiguration) -> str:
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
