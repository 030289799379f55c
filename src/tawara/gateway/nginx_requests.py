"""Renders the locations by which requests and their bodies reach the gateway."""

from __future__ import annotations

from typing import Final

from tawara.gateway import nginx_applications
from tawara.gateway.nginx_errors import ERROR_PAGES, SENTENCES
from tawara.gateway.nginx_parameters import Listener, NginxConfiguration
from tawara.gateway.nginx_places import CONDITIONS, kept
from tawara.gateway.nginx_protocol import EXHAUSTED, STREAM, GatewayStep, HeaderField
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.nginx_text import indent, seconds, variable

_REFUSALS: Final = (400, 401, 403, 404, 405, 409, 411, 412, 413, 415, 422, 500, 503, 507)


def try_others(conf: NginxConfiguration) -> str:
    """Render the directive that repeats a request without effects at the next process when one has ended.

    A PUT or DELETE is not repeated: it may have been carried out, and other requests may have followed it.
    """
    return "proxy_next_upstream error;\n" if conf.processes > 1 else ""


def render_entry(listener: Listener, conf: NginxConfiguration, *, guarded: bool) -> str:
    """Render the location that receives every request, and those of the requests that are refused there."""
    decided = indent(nginx_applications.SET) if guarded else ""
    return f"""\
location / {{
    error_page 418 = {listener.protocol.route};
{indent(ERROR_PAGES)}
    if ({listener.protocol.route}) {{ return 418; }}
{decided}
{indent(_to_gateway(GatewayStep.DECIDE, listener) + try_others(conf))}
    proxy_read_timeout 60s;
}}

location @delete {{
{indent(ERROR_PAGES)}
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
{indent(ERROR_PAGES)}
{indent(_to_gateway(GatewayStep.BODY, listener) + _unbuffered(conf))}
}}

location @no_length {{
    return 411;
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


def render_put(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the locations of a PUT: whether it is admitted, its body, and its answer if the body does not arrive."""
    return f"""\
location @small_put {{
{indent(ERROR_PAGES)}
{indent(_to_gateway(GatewayStep.SMALL_PUT, listener))}
    proxy_read_timeout 24h;
}}

location @put {{
    auth_request /.tawara/nginx/admit;
{indent("" if listener.protocol.passes_bodies else _VERDICT)}
    error_page 403 = @refused;
    error_page 500 = @unreceived;
{indent(ERROR_PAGES.replace("error_page 500", "#"))}
    client_body_in_file_only clean;
{indent(_to_gateway(GatewayStep.STORE, listener))}
    proxy_set_header {HeaderField.BODY} $request_body_file;
    proxy_read_timeout 24h;
}}

location = /.tawara/nginx/admit {{
    internal;
{indent(_to_gateway(GatewayStep.ADMIT, listener) + try_others(conf))}
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
{indent(ERROR_PAGES.replace("error_page 500 /.tawara/nginx/500", "error_page 500 =507 /.tawara/nginx/507"))}
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
{indent(ERROR_PAGES)}
{indent(_to_gateway(GatewayStep.UNRECEIVED, listener, with_body=True) + _unbuffered(conf))}
}}
"""


def render_streamed(listener: Listener, conf: NginxConfiguration) -> str:
    """Render the locations of bodies that Python sends: at once, or after every replica has failed."""
    fields = "".join(f"proxy_set_header {name} ${kept(name)};\n" for name in CONDITIONS if conf.features.clears_fields)
    return f"""\
location {STREAM} {{
{indent(ERROR_PAGES + _to_gateway(GatewayStep.STREAM, listener) + try_others(conf))}
    proxy_read_timeout 60s;
}}

location {EXHAUSTED} {{
{indent(ERROR_PAGES + _to_gateway(GatewayStep.STREAM, listener) + try_others(conf) + fields)}
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


def render_refused(listener: Listener) -> str:
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
{tests}    return 400 "{SENTENCES[400]}\\n";
}}
"""
