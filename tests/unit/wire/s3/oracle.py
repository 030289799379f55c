"""botocore as the oracle: requests of its clients, captured instead of sent, and answers parsed by its model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.config import Config
from botocore.model import ServiceModel

from tawara.wire.s3.head import HeaderFields, RequestHead, parse_target

ACCESS_KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "store.example:7081"


@dataclass
class CapturedRequest:
    """A request that botocore was about to send."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    result: dict[str, Any] = field(default_factory=dict)
    """What the client made of the answer."""

    def head(self, **changed: str | None) -> RequestHead:
        """The request as this server reads it; `changed`: header fields with `_` for `-`, None removes one."""
        return read(self.method, self.url, self.headers, **changed)


def read(method: str, url: str, headers: Mapping[str, str], **changed: str | None) -> RequestHead:
    """Read a request to a URL."""
    parts = urlsplit(url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    lines = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    for name, value in changed.items():
        lines.pop(name.replace("_", "-"), None)
        if value is not None:
            lines[name.replace("_", "-")] = value
    return RequestHead(
        method,
        parse_target(target.encode(), lines.get("host"), ("store.example",)),
        HeaderFields((name.encode(), value.encode()) for name, value in lines.items()),
    )


@cache
def model() -> ServiceModel:
    """AWS's model of S3."""
    return botocore.session.get_session().get_service_model("s3")


@cache
def client(scheme: str = "http", style: str = "path", region: str = "eu-tawara-1") -> BaseClient:
    """A client at its defaults."""
    session = botocore.session.Session()
    return session.create_client(
        "s3",
        endpoint_url=f"{scheme}://{HOST}",
        region_name=region,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(s3={"addressing_style": style}, retries={"max_attempts": 1}),
    )


class _Raw(io.BytesIO):
    def stream(self, amount: int = 65536, **_: Any) -> Any:
        while data := self.read(amount):
            yield data


def call(
    operation: str,
    answer: bytes = b"",
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    scheme: str = "http",
    style: str = "path",
    **parameters: Any,
) -> CapturedRequest:
    """Let a client call an operation (its method's name, such as `put_object`), and answer it with these bytes.

    Raises botocore's ClientError if the answer is an error.
    """
    captured: list[CapturedRequest] = []

    def send(request: Any, **_: Any) -> AWSResponse:
        body = request.body
        if body is None:
            body = b""
        elif hasattr(body, "read"):
            body = body.read()
        fields = {
            name: value.decode() if isinstance(value, bytes) else str(value) for name, value in request.headers.items()
        }
        captured.append(CapturedRequest(request.method, request.url, fields, body))
        given = {"Content-Length": str(len(answer)), **(headers or {})}
        return AWSResponse(request.url, status, given, _Raw(answer))

    found = client(scheme, style)
    found.meta.events.register_last("before-send.s3", send, unique_id="oracle")
    try:
        result = getattr(found, operation)(**parameters)
    finally:
        found.meta.events.unregister("before-send.s3", unique_id="oracle")
    captured[0].result = result
    return captured[0]
