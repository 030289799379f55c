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

from typing import Final

from tawara.gateway import nginx_applications, nginx_balancer, nginx_cache
from tawara.gateway.nginx_errors import ERROR_PAGES, SENTENCES, render_error
from tawara.gateway.nginx_parameters import (
    CHAIN,
    ERRORS,
    KEY,
    PID,
    SCRIPT,
    Listener,
    NginxConfiguration,
    NginxFeatures,
)
from tawara.gateway.nginx_places import (
    PlaceVariant,
    render_fetch,
    render_next_places,
    render_places,
    render_remote,
)
from tawara.gateway.nginx_protocol import GatewayStep, HeaderField
from tawara.gateway.nginx_requests import render_entry, render_put, render_refused, render_streamed, try_others
from tawara.gateway.nginx_routes import ROUTES, ListenerProtocol
from tawara.gateway.nginx_text import indent, quoted, seconds, variable
from tawara.gateway.spool import BODIES
from tawara.model.limits import REPLICAS_TRIED


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


def _http(conf: NginxConfiguration) -> str:
    """Render the directives for all requests and their subrequests."""
    return f"""\
access_log off;
{_routes(conf)}{render_next_places()}server_tokens off;
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
    errors = [render_error(status, listener) for status in SENTENCES]
    blocks = [
        ERROR_PAGES,
        render_entry(listener, conf, guarded=bool(on_paths)),
        render_put(listener, conf),
        render_refused(listener),
        *errors,
    ]
    blocks += render_places(conf, PlaceVariant(guarded=bool(on_paths)))
    if listener.protocol is ListenerProtocol.S3 and conf.features.scripts:
        blocks += render_places(conf, PlaceVariant(scripted=True))
    blocks.append(render_streamed(listener, conf))
    if on_paths:
        blocks += [nginx_applications.render_paths(on_paths), application_files(conf)]
    listen = _listen(listener, conf)
    own = f"server {{\n{indent(listen + chr(10).join(blocks))}\n}}\n"
    shared = chr(10).join(
        [ERROR_PAGES, *errors, *render_places(conf, PlaceVariant(guarded=True)), application_files(conf)]
    )
    return own + "".join(nginx_applications.render_server(each, listen, shared) for each in applications if each.host)


def _cache(conf: NginxConfiguration) -> str:
    """Render the cache, and where other gateways read it."""
    if conf.cache is None:
        return ""
    return nginx_cache.render_zone(conf.cache) + nginx_cache.render_peer_server(conf.cache, render_fetch(conf))


def render_for_balancer(conf: NginxConfiguration, gateway: str, key_file: str) -> str:
    """Render what an nginx that is not ours needs for `conf.applications`, in its block `http`.

    `gateway`: address at which the gateway answers balancers; `key_file`: path of a file with the directive that sends
    an access key.
    """
    variant = PlaceVariant(guarded=True, slots=False)
    shared = [nginx_balancer.SETTINGS, ERROR_PAGES, *(render_error(status, conf.listeners[0]) for status in SENTENCES)]
    shared += [render_remote(number, conf, variant) for number in range(1, REPLICAS_TRIED + 1)]
    shared.append(application_files(conf, nginx_balancer.UPSTREAM, f"include {quoted(key_file)};\n"))
    listen = _listen(conf.listeners[0], conf)
    servers = [nginx_applications.render_server(each, listen, "\n".join(shared)) for each in conf.applications]
    upstreams = nginx_balancer.render_upstream(gateway) + nginx_applications.render_upstreams(conf.applications)
    return nginx_balancer.head(key_file) + upstreams + render_next_places() + "".join(servers)


def application_files(
    conf: NginxConfiguration, upstream: str = ListenerProtocol.HTTP.upstream, authorization: str = ""
) -> str:
    """Render the locations of the files that applications name.

    `upstream`: where the gateway is asked; `authorization`: directives that authorise these requests.
    """
    apps, clears = nginx_applications, conf.features.clears_fields
    ask = apps.request_fields(GatewayStep.FILE) + authorization + apps.conditions("http_") + try_others(conf)
    stream = apps.request_fields(GatewayStep.FILE_STREAM) + authorization + try_others(conf)
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
