"""Renders the errors that nginx answers itself, in the form of each protocol."""

from __future__ import annotations

from typing import Final

from tawara.gateway.nginx_parameters import Listener
from tawara.gateway.nginx_protocol import METHODS
from tawara.gateway.nginx_routes import ListenerProtocol

SENTENCES: Final = {
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
ERROR_PAGES: Final = """\
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


def render_error(status: int, listener: Listener) -> str:
    """Render the location of an error that nginx answers itself, in the form of the protocol."""
    own, media_type, text = "", "text/plain", f"{SENTENCES[status]}\\n"
    if listener.protocol is ListenerProtocol.S3:
        own = "    add_header x-amz-request-id $request_id always;\n"
        media_type = "application/xml"
        text = (
            '<?xml version=\\"1.0\\" encoding=\\"UTF-8\\"?>\\n'
            f"<Error><Code>{_S3_CODES[status]}</Code><Message>{SENTENCES[status]}</Message>"
            "<RequestId>$request_id</RequestId></Error>"
        )
    elif status == 405 and listener.protocol is ListenerProtocol.HTTP:
        own = f'    add_header Allow "{METHODS}" always;\n'
    return (
        f"location = /.tawara/nginx/{status} {{\n    internal;\n    default_type {media_type};\n{own}"
        f'    return {status} "{text}";\n}}\n'
    )
