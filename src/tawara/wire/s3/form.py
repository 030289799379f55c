"""The form of an upload by a browser (RFC 7578): reads fields and file piece by piece, and renders the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import multipart
from multipart import MultipartSegment, PushMultipartParser

from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.post_policy import success_status
from tawara.wire.s3.xml_out import render

MOST_FIELDS: Final = 100
LONGEST_FIELDS: Final = 65_536
"""Bytes of the values of all fields together."""
_FILE: Final = "file"
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}", re.ASCII)
_HEADER_NAMES: Final = frozenset(
    {
        "cache-control", "content-disposition", "content-encoding", "content-language", "content-md5", "content-type",
        "expires",
    }
)  # fmt: skip
"""Form fields that stand for header fields of a PUT, besides those that begin with `x-amz-`."""
_NOT_HEADERS: Final = frozenset({"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"})
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")


class FormValues(dict[str, str]):
    """The fields of a form by lower-case name, and the name of its file."""

    filename: str = ""

    def required(self, name: str) -> str:
        """Return the value of a field. Raises S3Fault (InvalidArgument) if the form does not have it."""
        value = self.get(name)
        if not value:
            raise invalid_argument(
                name,
                "",
                f"Bucket POST must contain a field named '{name}'. If it is specified, please check the order of the"
                " fields.",
            )
        return value

    def header_lines(self) -> Iterator[tuple[bytes, bytes]]:
        """The fields that stand for header fields of a PUT."""
        for name, value in self.items():
            if name in _HEADER_NAMES or (name.startswith("x-amz-") and name not in _NOT_HEADERS):
                yield name.encode(), value.encode()
        if (acl := self.get("acl")) is not None:
            yield b"x-amz-acl", acl.encode()


class FormReader:
    """Reads a form; what follows its file is ignored. All methods raise S3Fault: MalformedPOSTRequest."""

    def __init__(self, content_type: str) -> None:
        _, options = multipart.parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if _BOUNDARY.fullmatch(boundary) is None:
            raise S3Fault(FaultCode.MALFORMED_POST, "The Content-Type has no valid boundary")
        self._parser = PushMultipartParser(boundary, max_segment_count=MOST_FIELDS)
        self._values = FormValues()
        self._name = ""
        self._value = bytearray()
        self._length = 0
        self.file: MultipartSegment | None = None
        """The file's head, once all fields are read."""
        self.is_complete = False
        """Whether the file has been read to its end."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes of the body; return those of the file."""
        pieces: list[bytes] = []
        try:
            for event in self._parser.parse(data):
                if self.is_complete:
                    continue
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                elif self.file is not None:
                    pieces.append(bytes(event))
                else:
                    self._append(event)
        except ValueError as error:  # UnicodeDecodeError, too
            raise S3Fault(FaultCode.MALFORMED_POST, f"The form cannot be parsed: {error}") from None
        return pieces

    def end(self) -> NoReturn:
        """Raise the fault of a form that ended before its file did: IncompleteBody, InvalidArgument without a file."""
        try:
            self._parser.close()
        except ValueError:
            raise S3Fault(FaultCode.INCOMPLETE_BODY) from None
        raise S3Fault(FaultCode.INVALID_ARGUMENT, "POST requires exactly one file upload per request.")

    def values(self, file: MultipartSegment) -> FormValues:
        """Return the fields that came before the file."""
        self._values.filename = file.filename or ""
        return self._values

    def _begin(self, segment: MultipartSegment) -> None:
        self._name = (segment.name or "").lower()
        if not self._name:
            raise S3Fault(FaultCode.MALFORMED_POST, "A part of the form has no name")
        if self._name == _FILE:
            self.file = segment

    def _append(self, data: bytes) -> None:
        self._length += len(data)
        if self._length > LONGEST_FIELDS:
            raise S3Fault(
                FaultCode.MAX_POST_PRE_DATA_LENGTH,
                details=[("MaxPostPreDataLengthBytes", LONGEST_FIELDS)],
            )
        self._value += data

    def _end(self) -> None:
        if self.file is not None:
            self.is_complete = True
            return
        if self._name in self._values:
            raise invalid_argument(self._name, "", "The form has several fields of this name")
        self._values[self._name] = self._value.decode()
        self._value.clear()


def success_reply(form: FormValues, bucket: str, key: bytes, etag: str, base: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, header fields and body of the answer to a successful upload.

    `etag` has quotes; `base`: URL of the bucket with a slash at its end. A redirection that is no URL is passed over.
    """
    location = base + quote(key)
    fields = {"etag": etag, "location": location}
    redirect = form.get("success_action_redirect") or form.get("redirect")
    if redirect and (target := _redirection(redirect, bucket, key, etag)) is not None:
        return 303, fields | {"location": target}, b""
    status = success_status(form)
    if status != 201:
        return status, fields, b""
    content = [("Location", location), ("Bucket", bucket), ("Key", key.decode()), ("ETag", etag)]
    return status, fields, render("PostResponse", content, namespace=None)


def _redirection(url: str, bucket: str, key: bytes, etag: str) -> str | None:
    if _CONTROL.search(url) or not url.isascii():
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return None
    query = urlencode({"bucket": bucket, "key": key, "etag": etag})
    return parts._replace(query=f"{parts.query}&{query}" if parts.query else query).geturl()
