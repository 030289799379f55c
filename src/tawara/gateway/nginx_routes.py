"""The protocols that the gateway speaks behind nginx, and the maps by which nginx chooses the location of a request."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class ListenerProtocol(StrEnum):
    """A protocol, as HeaderField.LISTENER names it."""

    HTTP = "http"
    S3 = "s3"
    DAV = "dav"

    @property
    def upstream(self) -> str:
        """Name of the upstream, and of the sockets of its processes."""
        return "gateway" if self is ListenerProtocol.HTTP else str(self)

    @property
    def route(self) -> str:
        """The variable with the location of a request; empty: the gateway decides."""
        return f"$tawara_{self}_route"

    @property
    def passes_bodies(self) -> bool:
        """Whether requests other than PUT may have bodies, which the gateway gets as they arrive."""
        return self is not ListenerProtocol.HTTP


_SMALL: Final = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
"""A length up to SMALL_BODY."""
_HTTP: Final = f"""\
map "$server_protocol $request_method/$content_length/$http_transfer_encoding" $tawara_http_route {{
    default @other_method;
    "HTTP/1.1 GET//" "";
    "HTTP/1.1 HEAD//" "";
    "HTTP/2.0 GET//" "";
    "HTTP/2.0 HEAD//" "";
    "~^HTTP/0.9 " @other_version;
    "~^[^ ]+ PUT/{_SMALL}/$" @small_put;
    "~^[^ ]+ PUT/" @put;
    "~^[^ ]+ (GET|HEAD|OPTIONS)/0*/$" "";
    "~^[^ ]+ DELETE/0*/$" @delete;
    "~^[^ ]+ (GET|HEAD|DELETE|OPTIONS)/" @unwanted_body;
}}
map $server_protocol $tawara_coding {{
    default $http_transfer_encoding;
    HTTP/2.0 chunked;  # a body of HTTP/2 may have no length
}}
"""
"""A request other than PUT must not have a body."""
_DAV: Final = f"""\
map "$server_protocol $request_method/$content_length/$http_transfer_encoding" $tawara_dav_route {{
    default @body;
    "HTTP/1.1 GET//" "";
    "HTTP/1.1 HEAD//" "";
    "~^HTTP/0.9 " @other_version;
    "~^[^ ]+ PUT/{_SMALL}/$" @small_put;
    "~^[^ ]+ PUT/" @put;
    "~^[^ ]+ DELETE//$" @delete;
}}
"""
_S3: Final = f"""\
map "$http_x_amz_content_sha256/$http_x_amz_decoded_content_length/$http_content_encoding" $tawara_framing {{
    default "";
    "~^STREAMING-" framed;
    "~/[^/]+/" framed;
    "~*aws-chunked" framed;
}}
map "$server_protocol $request_method/$content_length/$http_transfer_encoding/$tawara_framing" $tawara_s3_route {{
    default @body;
    "HTTP/1.1 GET///" "";
    "HTTP/1.1 HEAD///" "";
    "~^HTTP/0.9 " @other_version;
    "~^[^ ]+ DELETE///$" @delete;
    "~^[^ ]+ PUT/{_SMALL}//" @small_put;
    "~^[^ ]+ PUT/[0-9]+//$" @put;
    "~^[^ ]+ PUT//[^/]+/$" @no_length;
}}
"""
"""A body framed by aws-chunked is decoded by the gateway, which gets it as it arrives, unless it is small. One without
a length is refused by nginx: it would tell the gateway the length if it has received all of the body by then."""
ROUTES: Final[Mapping[ListenerProtocol, str]] = {
    ListenerProtocol.HTTP: _HTTP,
    ListenerProtocol.S3: _S3,
    ListenerProtocol.DAV: _DAV,
}
"""The maps of each protocol."""
