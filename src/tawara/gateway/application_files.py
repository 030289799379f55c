"""Answers nginx's questions for files that an application behind it has named (nginx_applications)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from aiohttp import web

from tawara.gateway import nginx_applications
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.nginx_protocol import EXHAUSTED, STREAM, HeaderField, place
from tawara.gateway.requests import HttpRequest, MethodNotAllowed, RequestParser
from tawara.http1.reply import Reply
from tawara.model.applications import Application
from tawara.model.errors import NotFoundError
from tawara.model.limits import REPLICAS_TRIED
from tawara.wire.http import path_of

log = structlog.get_logger(__name__)

_ACCEL: Final = "X-Accel-Redirect"
_LAST: Final = place(REPLICAS_TRIED)
_RENAMED: Final = {EXHAUSTED: nginx_applications.EXHAUSTED, STREAM: nginx_applications.STREAM}


class ApplicationFileHandler:
    """Returns the places of a file. The application has authorised the client; only the domain is checked."""

    def __init__(self, applications: Sequence[Application], parser: RequestParser, get: GetHandler) -> None:
        self._applications = {str(each.number): each for each in applications}
        self._parser, self._get = parser, get

    async def handle(self, request: HttpRequest, *, by_nginx: bool) -> Reply | web.StreamResponse:
        """Answer one request. Raises NotFoundError for a domain that it may not send, and as GetHandler."""
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed
        target = self._parser.target(request)
        application = self._applications.get(request.headers.get(HeaderField.APPLICATION) or "")
        if application is None or not application.may_send(target.domain):
            log.warning("application_file_refused", domain=target.domain, application=_shown(application))
            raise NotFoundError(f"The application may not send files of the domain {target.domain}")
        domain = await self._parser.domain(target)
        if not target.key:
            raise NotFoundError
        kept_type = request.headers.get(HeaderField.KEPT_TYPE) or ""
        reply = await self._get.handle(request, domain, target.key, by_nginx=by_nginx, content_type=kept_type)
        return adapted(reply, path_of(domain.name, target.key), kept_type)


def adapted(reply: Reply | web.StreamResponse, target: str, kept_type: str) -> Reply | web.StreamResponse:
    """Return the reply about a file that an application has named; one that has no places stays as it is."""
    if isinstance(reply, web.StreamResponse) or _ACCEL not in reply.fields:
        return reply
    return reply._replace(fields=adapt_places(reply.fields, target, kept_type))


def adapt_places(fields: Mapping[str, str], target: str, kept_type: str) -> dict[str, str]:
    """Return the fields that give nginx the places of a file that an application has named, at the path `target`."""
    fields = dict(fields)
    if kept_type:  # nginx has it already
        fields.pop(HeaderField.TYPE, None)
    if _LAST in fields:  # after the last place of all nginx goes to the location for clients' requests
        fields[_LAST] = EXHAUSTED
    fields[HeaderField.TARGET] = target
    return {name: _RENAMED.get(value, value) for name, value in fields.items()}


def _shown(application: Application | None) -> str:
    return "" if application is None else application.host or application.path
