"""Parses and authorises requests to the gateway: values and exceptions, no I/O (RFC 9110)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, hdrs, web

from tawara.gateway import reading
from tawara.gateway.authenticator import Authenticator
from tawara.http1.connections import body_length
from tawara.http1.reply import NOT_WHOLE, content_md5, whole_length
from tawara.metadata.view import ClusterView
from tawara.model.access.grants import Right
from tawara.model.cluster import Domain
from tawara.model.errors import InvalidKey, NoKey, UnregClass, UnregDomain, UsageError
from tawara.model.node_errors import MalformedRequest
from tawara.store.conditions import UNCONDITIONAL
from tawara.store.writer import WriteRequest
from tawara.wire.http import Conditions, Target, parse_target
from tawara.wire.plain_request import PlainRequest

RESERVED: Final = ".tawara"
"""Path of the gateway's own resources; a domain of this name is not served."""


class MethodNotAllowed(UsageError):
    """The method is not served for this path."""

    code = "method_not_allowed"
    message = "Method not allowed"
    hint = None
    http = 405


class VersionNotSupported(UsageError):
    """The request's HTTP version is not 1.x."""

    code = "version_not_supported"
    message = "HTTP version not supported"
    hint = None
    http = 505


class UnsupportedCoding(UsageError):
    """The request has a Content-Encoding."""

    code = "unsupported_coding"
    message = "Content-Encoding is not stored; send the file as it is"
    hint = None
    http = 415


_CONDITIONAL: Final = frozenset(
    {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"}
)


class PlainFields:
    """The header fields of a plain request, with the methods of aiohttp's that the handlers use."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a field."""
        value = self._fields.get(_field_key(name))
        return default if value is None else value.decode("ascii")

    def getall(self, name: str, default: Iterable[str] = ()) -> Iterable[str]:
        """Return the values of a field, which is at most one."""
        value = self._fields.get(_field_key(name))
        return default if value is None else (value.decode("ascii"),)

    @property
    def conditional(self) -> bool:
        """Whether there is any conditional field."""
        return not _CONDITIONAL.isdisjoint(self._fields)

    def __contains__(self, name: str) -> bool:
        return _field_key(name) in self._fields

    def __getitem__(self, name: str) -> str:
        return self._fields[_field_key(name)].decode("ascii")


@lru_cache(256)
def _field_key(name: str) -> bytes:
    return name.lower().encode("ascii")


class PlainHttpRequest:
    """A plain request from nginx, with the attributes of aiohttp's that the handlers use."""

    __slots__ = ("_request", "body", "headers", "method", "raw_path")

    def __init__(self, request: PlainRequest, body: bytes) -> None:
        self._request, self.body = request, body
        self.method, self.raw_path = request.method, request.target
        self.headers = PlainFields(request.fields)

    @property
    def version(self) -> HttpVersion:
        """Version of HTTP."""
        return HttpVersion11 if self._request.minor else HttpVersion10

    @property
    def body_exists(self) -> bool:
        """Whether the request has a body."""
        return bool(self.body)

    @property
    def raw_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """Names, in lower case, and values of the header fields."""
        return self._request.fields.items()


HttpRequest: TypeAlias = web.BaseRequest | PlainHttpRequest
"""A request as either server passes it to the handlers."""


class RequestParser:
    """Parses requests into values. Its methods raise the error to be returned to the client."""

    def __init__(self, view: ClusterView, authenticator: Authenticator, *, upload: int) -> None:
        """`upload`: maximum bytes of a body."""
        self._view, self._authenticator, self._upload = view, authenticator, upload

    def target(self, request: HttpRequest) -> Target:
        """Return the domain and key of the request. Raises VersionNotSupported, UsageError, InvalidKey."""
        if not HttpVersion10 <= request.version <= HttpVersion11:
            raise VersionNotSupported
        return parse_target(request.raw_path)

    async def authorise(self, request: HttpRequest, target: Target, right: Right) -> None:
        """Raise DeniedError, Forbidden, SecretUnreadable or Db unless the request has `right` to its target.

        Without a key, reading means listing the keys of the domain that begin with the query's `prefix`.
        """
        key = target.key
        if right is Right.READ and not key:
            right, key = Right.LIST, target.parameters().get("prefix", b"")
        if not self._authenticator.is_public(key, right):
            fields = list(request.headers.getall(hdrs.AUTHORIZATION, ()))
            await self._authenticator.authorise(fields, target.domain, key, right)

    async def domain(self, target: Target, storage_class: str = "") -> Domain:
        """Return the domain of the target, with this class if it exists. Raises UnregDomain, Db."""
        cluster = await self._view.refresh_for_name(target.domain, storage_class)
        domain = cluster.domains.get(target.domain)
        if domain is None:
            raise UnregDomain("Domain not found")
        return domain

    async def put(self, request: HttpRequest) -> WriteRequest:
        """Return what a PUT asks for, authorised.

        Raises UsageError, DeniedError, SecretUnreadable, Db, UnregDomain, UnregClass, NoKey.
        """
        target = self.target(request)
        if target.domain in ("", RESERVED):
            raise MethodNotAllowed
        await self.authorise(request, target, Right.WRITE)
        class_name = target.parameters().get("class", b"").decode("utf-8", "replace")
        domain, headers = await self.domain(target, class_name), request.headers
        if not target.key:
            raise NoKey("A file needs a key: /DOMAIN/KEY")
        try:
            target.key.decode()
        except UnicodeDecodeError:
            raise InvalidKey("A key is UTF-8") from None
        if (headers.get(hdrs.CONTENT_ENCODING) or "identity").lower() != "identity":
            raise UnsupportedCoding
        storage_class = domain.class_named(class_name)
        if storage_class is None:
            raise UnregClass(UnregClass.message)
        return WriteRequest(
            domain=domain,
            key=target.key,
            storage_class=storage_class,
            content_type=reading.media_type(headers.get(hdrs.CONTENT_TYPE)),
            md5=content_md5(headers.get(hdrs.CONTENT_MD5)),
            conditions=conditions(request),
            length=whole_length(headers.get(hdrs.CONTENT_RANGE)),
        )

    def body_length(self, length: int | None, coding: str | None, wanted: WriteRequest) -> int | None:
        """Return the announced bytes of the body of a PUT, None if it comes in chunks.

        Raises LengthRequired, TooLarge, MalformedRequest when Content-Range says another length.
        """
        announced = body_length(length, coding, most=self._upload)
        if wanted.length is not None and announced not in (None, wanted.length):
            raise MalformedRequest(NOT_WHOLE)
        return announced


def conditions(request: HttpRequest) -> Conditions:
    """Return the conditional header fields of a request."""

    headers = request.headers
    if isinstance(headers, PlainFields) and not headers.conditional:
        return UNCONDITIONAL

    def field(name: str) -> str | None:
        return ", ".join(headers.getall(name, ())) if name in headers else None

    return Conditions(
        if_match=field(hdrs.IF_MATCH),
        if_unmodified_since=field(hdrs.IF_UNMODIFIED_SINCE),
        if_none_match=field(hdrs.IF_NONE_MATCH),
        if_modified_since=field(hdrs.IF_MODIFIED_SINCE),
        if_range=field(hdrs.IF_RANGE),
    )
