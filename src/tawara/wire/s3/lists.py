"""Listings: parameters of ListObjects (versions 1 and 2) and of ListBuckets, and their answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

from tawara.model.listing_page import ListingPage, is_whole_prefix
from tawara.model.multipart import plain_etag
from tawara.wire.s3.faults import invalid_argument
from tawara.wire.s3.head import S3Target
from tawara.wire.s3.tokens import decode_token, encode_token
from tawara.wire.s3.xml_out import DECLARATION, NAMESPACE, Value, escape, render, timestamp

MOST_ENTRIES: Final = 1000
"""Most keys and common prefixes of one answer."""
MOST_BUCKETS: Final = 10_000
"""Most buckets that a page of ListBuckets may be asked for."""
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_LONGEST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class S3Owner:
    """An owner as listings name it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The parameters of ListObjects or ListObjectsV2."""

    version: int
    """1 or 2."""
    prefix: bytes
    delimiter: bytes
    most: int
    """Most entries, at most MOST_ENTRIES."""
    encode: bool
    """Whether keys are answered percent-encoded."""
    marker: bytes | None
    """Version 1: marker; version 2: start-after."""
    token: str | None
    """Version 2: continuation-token as it was sent."""
    fetch_owner: bool
    after: bytes | None
    """The page begins after this key or common prefix."""
    after_prefix: bool
    """Whether `after` is a common prefix, all keys of which are passed over."""


def parse_list_query(target: S3Target) -> ListQuery:
    """Read the parameters; `list-type=2` is version 2, anything else version 1. Raises S3Fault (InvalidArgument)."""
    version = 2 if target.parameter("list-type") == "2" else 1
    prefix = (target.parameter("prefix") or "").encode()
    delimiter = (target.parameter("delimiter") or "").encode()
    marker_text = target.parameter("start-after" if version == 2 else "marker")
    marker = None if marker_text is None else marker_text.encode()
    token = target.parameter("continuation-token") if version == 2 else None
    after, after_prefix = marker or None, False
    if token:
        after, after_prefix = decode_token(token)
    elif after is not None:
        after_prefix = is_whole_prefix(after, prefix, delimiter)
    return ListQuery(
        version=version,
        prefix=prefix,
        delimiter=delimiter,
        most=parse_most(target, "max-keys"),
        encode=parse_encoding(target),
        marker=marker,
        token=token,
        fetch_owner=version == 1 or (target.parameter("fetch-owner") or "").lower() == "true",
        after=after,
        after_prefix=after_prefix,
    )


def parse_most(target: S3Target, name: str) -> int:
    """Read a number of entries: at most 1,000, which is also the default. Raises S3Fault (InvalidArgument)."""
    text = target.parameter(name)
    if text is None or text == "":
        return MOST_ENTRIES
    if _NUMBER.fullmatch(text) is None or int(text) > _LONGEST:
        raise invalid_argument(name, text, f"Provided {name} not an integer or within integer range")
    return min(int(text), MOST_ENTRIES)


def parse_encoding(target: S3Target) -> bool:
    """Whether keys are to be encoded. Raises S3Fault (InvalidArgument) for an encoding other than `url`."""
    text = target.parameter("encoding-type")
    if text is not None and text.lower() != "url":
        raise invalid_argument("encoding-type", text, "Invalid Encoding Method specified in Request")
    return text is not None


def encode_key(key: bytes) -> str:
    """Encode a key as `encoding-type=url` has it: a blank as `+`, a plus as `%2B`, `/` as it is."""
    return quote_from_bytes(key, safe="/*").replace("~", "%7E").replace("%20", "+")


def key_text(key: bytes, *, encode: bool) -> str:
    """A key as text of an answer, before XML escaping; bytes that are not UTF-8 are surrogates if not encoded."""
    return encode_key(key) if encode else key.decode("utf-8", "surrogateescape")


def render_objects(
    bucket: str,
    query: ListQuery,
    page: ListingPage,
    *,
    class_name: Callable[[int], str],
    owner: S3Owner | None = None,
) -> bytes:
    """Render the answer of ListObjects or ListObjectsV2. `class_name`: storage class of a class id."""

    def text(key: bytes) -> str:
        return escape(key_text(key, encode=query.encode))

    parts = [f'{DECLARATION}<ListBucketResult xmlns="{NAMESPACE}"><Name>{escape(bucket)}</Name>']
    parts.append(f"<Prefix>{text(query.prefix)}</Prefix>")
    parts += _positions(query, page, text)
    parts.append(f"<MaxKeys>{query.most}</MaxKeys>")
    if query.delimiter:
        parts.append(f"<Delimiter>{text(query.delimiter)}</Delimiter>")
    if query.encode:
        parts.append("<EncodingType>url</EncodingType>")
    parts.append(f"<IsTruncated>{'true' if page.truncated else 'false'}</IsTruncated>")
    owned = ""
    if owner is not None and query.fetch_owner:
        owned = f"<Owner><ID>{escape(owner.id)}</ID><DisplayName>{escape(owner.name)}</DisplayName></Owner>"
    for each in page.files:
        etag = each.etag or plain_etag(each.fid, each.length, each.md5)
        parts.append(
            f"<Contents><Key>{text(each.key)}</Key><LastModified>{timestamp(each.stored_at or 0)}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>{each.length}</Size>{owned}"
            f"<StorageClass>{escape(class_name(each.classid))}</StorageClass></Contents>"
        )
    parts += [f"<CommonPrefixes><Prefix>{text(each)}</Prefix></CommonPrefixes>" for each in page.prefixes]
    parts.append("</ListBucketResult>")
    return "".join(parts).encode()


def _positions(query: ListQuery, page: ListingPage, text: Callable[[bytes], str]) -> list[str]:
    """The elements that say where the page begins and where the next one does."""
    last = page.last if page.truncated else None
    parts = []
    if query.version == 1:
        parts.append(f"<Marker>{text(query.marker or b'')}</Marker>")
        if last is not None and query.delimiter:
            parts.append(f"<NextMarker>{text(last[0])}</NextMarker>")
        return parts
    if query.token is not None:
        parts.append(f"<ContinuationToken>{escape(query.token)}</ContinuationToken>")
    elif query.marker is not None:
        parts.append(f"<StartAfter>{text(query.marker)}</StartAfter>")
    if last is not None:
        token = encode_token(last[0], is_prefix=last[1])
        parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    parts.append(f"<KeyCount>{len(page.files) + len(page.prefixes)}</KeyCount>")
    return parts


@dataclass(frozen=True, slots=True)
class BucketQuery:
    """The parameters of ListBuckets."""

    prefix: str | None = None
    most: int | None = None
    """Most buckets; None: all of them in one answer."""
    after: str = ""
    """The answer begins after this name."""
    is_elsewhere: bool = False
    """Whether buckets of another region are asked for, of which there are none."""


def parse_bucket_query(target: S3Target, region: str) -> BucketQuery:
    """Read the parameters of ListBuckets. Raises S3Fault (InvalidArgument)."""
    text, token, asked = (target.parameter(each) for each in ("max-buckets", "continuation-token", "bucket-region"))
    if text is not None and (_NUMBER.fullmatch(text) is None or not 1 <= int(text) <= MOST_BUCKETS):
        raise invalid_argument("max-buckets", text, f"max-buckets must be a number between 1 and {MOST_BUCKETS}")
    after = decode_token(token)[0].decode("utf-8", "replace") if token else ""
    return BucketQuery(target.parameter("prefix"), int(text) if text else None, after, asked not in (None, "", region))


def render_buckets(
    owner: S3Owner,
    buckets: Sequence[tuple[str, int]],
    query: BucketQuery = BucketQuery(),
) -> bytes:
    """Render the answer of ListBuckets: of names in order, with the times of their creation, those asked for."""
    found = [
        (name, created_at)
        for name, created_at in buckets
        if name > query.after and name.startswith(query.prefix or "") and not query.is_elsewhere
    ]
    most = len(found) if query.most is None else query.most
    listed: list[tuple[str, Value]] = [
        ("Bucket", [("Name", name), ("CreationDate", timestamp(created_at))]) for name, created_at in found[:most]
    ]
    token = encode_token(found[most - 1][0].encode(), is_prefix=False) if len(found) > most else None
    return render(
        "ListAllMyBucketsResult",
        [
            ("Owner", [("ID", owner.id), ("DisplayName", owner.name)]),
            ("Buckets", listed),
            ("ContinuationToken", token),
            ("Prefix", query.prefix),
        ],
    )
