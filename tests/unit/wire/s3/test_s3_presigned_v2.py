"""URLs presigned by version 2, as boto3 makes them for us-east-1 at its defaults."""

from __future__ import annotations

from typing import Any

import pytest

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.presigned_v2 import PresignedV2, check_expiry, presigned_v2_of, verify_v2
from tests.unit.wire.s3.oracle import ACCESS_KEY_ID, SECRET, client, read


def url(method: str = "get_object", style: str = "path", **parameters: Any) -> str:
    maker: Any = client(style=style, region="us-east-1")
    made: str = maker.generate_presigned_url(method, Params={"Bucket": "b", "Key": "a b+é/~x", **parameters})
    assert "AWSAccessKeyId=" in made
    return made


def verified(method: str, made: str, headers: dict[str, str] | None = None) -> PresignedV2:
    head = read(method, made, headers or {})
    found = presigned_v2_of(head)
    assert found is not None
    verify_v2(head, found, SECRET)
    return found


def refusal(method: str, made: str, headers: dict[str, str] | None = None) -> FaultCode:
    with pytest.raises(S3Fault) as raised:
        verified(method, made, headers)
    return raised.value.code


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_urls_of_boto3(style: str) -> None:
    """A URL that boto3 presigns at its defaults for us-east-1 verifies, with replaced fields of the answer, too."""
    made = url(style=style, ResponseContentType="text/x", ResponseContentDisposition="attachment; filename=a")
    found = verified("GET", made)
    assert found.access_key_id == ACCESS_KEY_ID
    check_expiry(found, found.expires)
    with pytest.raises(S3Fault) as raised:
        check_expiry(found, found.expires + 1)
    assert raised.value.code is FaultCode.ACCESS_DENIED


def test_urls_that_were_changed() -> None:
    """A change of the method, key, time, signed parameters or x-amz-* fields is SignatureDoesNotMatch."""
    made = url(ResponseContentType="text/x")
    changes = (("text%2Fx", "text%2Fy"), ("Expires=", "Expires=1"), ("/a%20b", "/c%20b"), ("&response", "&other"))
    assert refusal("PUT", made) is FaultCode.SIGNATURE_DOES_NOT_MATCH
    for before, after in changes:
        changed = made.replace(before, after)
        if changed != made:
            assert refusal("GET", changed) is FaultCode.SIGNATURE_DOES_NOT_MATCH
    assert refusal("GET", f"{made}&versionId=5") is FaultCode.SIGNATURE_DOES_NOT_MATCH
    assert refusal("GET", made, {"x-amz-acl": "private"}) is FaultCode.SIGNATURE_DOES_NOT_MATCH


def test_puts() -> None:
    """A presigned PUT must have the content type and metadata that were signed."""
    made = url("put_object", ContentType="text/x", Metadata={"a": "b"})
    good = {"content-type": "text/x", "x-amz-meta-a": "b"}
    verified("PUT", made, good)
    assert refusal("PUT", made, good | {"content-type": "text/y"}) is FaultCode.SIGNATURE_DOES_NOT_MATCH
    assert refusal("PUT", made, {"content-type": "text/x"}) is FaultCode.SIGNATURE_DOES_NOT_MATCH


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("&Expires=5", FaultCode.ACCESS_DENIED),
        ("&attributes", FaultCode.ACCESS_DENIED),
        ("&legal-hold", FaultCode.ACCESS_DENIED),
        ("&x-amz-security-token=t", FaultCode.INVALID_TOKEN),
    ],
)
def test_parameters_that_are_not_covered(more: str, code: FaultCode) -> None:
    """A parameter that selects another operation without being signed, or is given twice, is refused."""
    assert refusal("GET", url() + more) is code


def test_other_requests() -> None:
    """Requests without a key id and a signature are none; two kinds of authentication at once are refused."""
    assert presigned_v2_of(read("GET", "http://store.example/b/k?Signature=x", {})) is None
    assert presigned_v2_of(read("GET", "http://store.example/b/k?X-Amz-Algorithm=x", {})) is None
    assert refusal("GET", url(), {"authorization": "AWS4-HMAC-SHA256 x"}) is FaultCode.INVALID_ARGUMENT
    broken = "http://store.example/b/k?AWSAccessKeyId=a&Signature=b&Expires=soon"
    assert refusal("GET", broken) is FaultCode.ACCESS_DENIED
