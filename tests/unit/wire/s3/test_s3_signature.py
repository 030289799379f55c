"""Signature Version 4: AWS's published examples, botocore's signers, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.s3.canonical import canonical_query, canonical_uri, canonical_value
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields, RequestHead, parse_query, parse_target
from tawara.wire.s3.signature import Authentication, Scope, authentication_of, check_time, signing_key, verify
from tests.unit.wire.s3.oracle import ACCESS_KEY_ID, HOST, SECRET, call, client, read

EXAMPLE_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EXAMPLE_TIME = 1369353600
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EXAMPLE_HOST = "http://examplebucket.s3.amazonaws.com"


def example(signed: str, signature: str) -> str:
    return (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={signed},Signature={signature}"
    )


def authenticated(head: RequestHead) -> Authentication:
    found = authentication_of(head)
    assert found is not None
    return found


def verified(head: RequestHead, secret: str = SECRET, hosts: tuple[str, ...] = ()) -> Authentication:
    found = authenticated(head)
    verify(head, found, signing_key(secret, found.scope), hosts)
    return found


def refusal(head: RequestHead, now: int | None = None) -> S3Fault:
    with pytest.raises(S3Fault) as raised:
        found = verified(head)
        if now is not None:
            check_time(found, now)
    return raised.value


EXAMPLES = [
    (
        "GET",
        "/test.txt",
        {"range": "bytes=0-9", "x-amz-content-sha256": EMPTY},
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    (
        "PUT",
        "/test%24file.text",
        {
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
            "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        },
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    (
        "GET",
        "/?lifecycle",
        {"x-amz-content-sha256": EMPTY},
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    (
        "GET",
        "/?max-keys=2&prefix=J",
        {"x-amz-content-sha256": EMPTY},
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]


@pytest.mark.parametrize(("method", "target", "headers", "signed", "signature"), EXAMPLES)
def test_the_published_examples(
    method: str, target: str, headers: Mapping[str, str], signed: str, signature: str
) -> None:
    """The examples in AWS's documentation verify."""
    fields = {**headers, "x-amz-date": "20130524T000000Z", "authorization": example(signed, signature)}
    found = verified(read(method, EXAMPLE_HOST + target, fields), EXAMPLE_SECRET)
    check_time(found, EXAMPLE_TIME)


def test_the_published_presigned_example() -> None:
    """The presigned URL in AWS's documentation verifies for a day, and not before and after."""
    url = (
        f"{EXAMPLE_HOST.replace('http', 'https')}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
        "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    found = verified(read("GET", url, {}), EXAMPLE_SECRET)
    for now in (EXAMPLE_TIME - 900, EXAMPLE_TIME, EXAMPLE_TIME + 86_400):
        check_time(found, now)
    for now in (EXAMPLE_TIME - 901, EXAMPLE_TIME + 86_401):
        with pytest.raises(S3Fault) as raised:
            check_time(found, now)
        assert raised.value.code is FaultCode.ACCESS_DENIED


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("list_buckets", {}),
    ("list_objects_v2", {"Bucket": "b", "Prefix": "a b+c/~*é", "Delimiter": "/", "StartAfter": "x=y&z"}),
    ("get_object", {"Bucket": "b", "Key": "a b+c//./~*é'()!$&,;=:@%"}),
    ("put_object", {"Bucket": "b", "Key": "k", "Body": b"x", "Metadata": {"my_key": "a  b", "a.b": "c"}}),
    ("put_object", {"Bucket": "b", "Key": "k", "Body": b"", "ContentType": "text/plain; charset=utf-8"}),
    ("delete_objects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}}),
    ("upload_part", {"Bucket": "b", "Key": "k", "PartNumber": 1, "UploadId": "x/+=", "Body": b"data"}),
]


@pytest.mark.parametrize(("operation", "parameters"), CALLS)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("style", ["path", "virtual"])
def test_requests_of_botocore_verify(operation: str, parameters: dict[str, Any], scheme: str, style: str) -> None:
    """A1, A2, A3: what botocore signs at its defaults verifies, over http and https, in both styles."""
    head = call(operation, scheme=scheme, style=style, **parameters).head()
    found = verified(head)
    assert (found.access_key_id, found.scope.region) == (ACCESS_KEY_ID, "eu-tawara-1")
    check_time(found, found.signed_at)


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_presigned_urls_of_botocore_verify(style: str) -> None:
    """Presigned URLs of botocore verify, for reading with overrides and for writing with signed fields (A7)."""
    maker: Any = client("https", style)
    parameters = {"Bucket": "b", "Key": "a b+é", "ResponseContentDisposition": 'attachment; filename="ü.txt"'}
    verified(read("GET", maker.generate_presigned_url("get_object", Params=parameters), {}))
    url = maker.generate_presigned_url(
        "put_object", Params={"Bucket": "b", "Key": "k", "ContentType": "text/plain", "Metadata": {"x": "1"}}
    )
    as_signed = {"content-type": "text/plain", "x-amz-meta-x": "1"}
    verified(read("PUT", url, as_signed))
    assert refusal(read("PUT", url, as_signed | {"content-type": "text/html"})).code is (
        FaultCode.SIGNATURE_DOES_NOT_MATCH
    )
    assert refusal(read("PUT", url, {"content-type": "text/plain"})).code is FaultCode.SIGNATURE_DOES_NOT_MATCH


def request() -> RequestHead:
    return call("get_object", Bucket="b", Key="k").head()


def test_another_secret_or_request_does_not_verify() -> None:
    """A8: a bad signature is SignatureDoesNotMatch 403 with StringToSign and CanonicalRequest in the answer."""
    captured = call("get_object", Bucket="b", Key="k")
    fault = refusal(read("GET", captured.url + "2", captured.headers))
    assert (fault.code.code, fault.status) == ("SignatureDoesNotMatch", 403)
    details = dict(fault.details)
    assert str(details["CanonicalRequest"]).startswith("GET\n/b/k2\n")
    assert str(details["StringToSign"]).startswith("AWS4-HMAC-SHA256\n")
    with pytest.raises(S3Fault):
        verified(captured.head(), SECRET[::-1])


def test_another_host_name_verifies_if_it_is_an_alias() -> None:
    """A4: behind a front end with another name the signature matches one of the given hosts, or none."""
    captured = call("get_object", Bucket="b", Key="k")
    changed = captured.head(host="10.0.0.7")
    assert refusal(changed).code is FaultCode.SIGNATURE_DOES_NOT_MATCH
    verified(changed, hosts=("other.example", HOST))


def test_the_clock_may_differ_by_fifteen_minutes() -> None:
    """A5: beyond 15 minutes of skew the answer is RequestTimeTooSkewed 403 with ServerTime in the body."""
    found = authenticated(request())
    check_time(found, found.signed_at + 900)
    check_time(found, found.signed_at - 900)
    for now in (found.signed_at + 901, found.signed_at - 901):
        with pytest.raises(S3Fault) as raised:
            check_time(found, now)
        assert (raised.value.code.code, raised.value.status) == ("RequestTimeTooSkewed", 403)
        assert {name for name, _ in raised.value.details} >= {"ServerTime", "RequestTime"}


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "x", "", "9" * 30])
def test_a_presigned_url_lives_a_week_at_most(expires: str) -> None:
    """A5: X-Amz-Expires is 1 to 604,800 seconds."""
    maker: Any = client()
    url = maker.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=77)
    code = refusal(read("GET", url.replace("X-Amz-Expires=77", f"X-Amz-Expires={expires}"), {})).code
    assert (code.code, code.status) == ("AuthorizationQueryParametersError", 400)


def test_the_payload_digest_is_required() -> None:
    """A6: without x-amz-content-sha256 the answer is InvalidRequest; a value that is none is InvalidArgument."""
    captured = call("get_object", Bucket="b", Key="k")
    assert refusal(captured.head(x_amz_content_sha256=None)).code is FaultCode.INVALID_REQUEST
    assert refusal(captured.head(x_amz_content_sha256="abc")).code is FaultCode.INVALID_ARGUMENT


def test_each_amazon_field_must_be_signed() -> None:
    """A3: an x-amz-* field that is not signed is refused with AccessDenied; so is a signature without the host."""
    captured = call("get_object", Bucket="b", Key="k")
    fault = refusal(captured.head(x_amz_acl="public-read"))
    assert (fault.code, dict(fault.details)) == (FaultCode.ACCESS_DENIED, {"HeadersNotSigned": "x-amz-acl"})
    without = captured.headers["Authorization"].replace("host;", "")
    assert refusal(captured.head(authorization=without)).code is FaultCode.ACCESS_DENIED


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("AWS AKID:signature", FaultCode.INVALID_REQUEST),
        ("AWS4-HMAC-SHA256", FaultCode.AUTHORIZATION_HEADER_MALFORMED),
        ("AWS4-HMAC-SHA256 Credential=a, Signature=b", FaultCode.AUTHORIZATION_HEADER_MALFORMED),
        ("AWS4-ECDSA-P256-SHA256 Credential=a", FaultCode.NOT_IMPLEMENTED),
        ("AWS4-HMAC-SHA512 Credential=a", FaultCode.AUTHORIZATION_HEADER_MALFORMED),
        ("Basic dXNlcjpwYXNz", FaultCode.INVALID_ARGUMENT),
    ],
)
def test_malformed_authorization(header: str, code: FaultCode) -> None:
    """A8: malformed is AuthorizationHeaderMalformed 400, version 2 InvalidRequest with "use AWS4-HMAC-SHA256"."""
    fault = refusal(call("get_object", Bucket="b", Key="k").head(authorization=header))
    assert fault.code is code
    if header.startswith("AWS "):
        assert "AWS4-HMAC-SHA256" in fault.message


def test_a_session_token_is_refused() -> None:
    """A9: x-amz-security-token is refused: no such tokens are given out."""
    assert (
        refusal(call("get_object", Bucket="b", Key="k").head(x_amz_security_token="t")).code is FaultCode.INVALID_TOKEN
    )


def test_header_and_query_at_once_are_refused() -> None:
    """A request may be signed in one way only."""
    maker: Any = client()
    url = maker.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    headers = call("get_object", Bucket="b", Key="k").headers
    assert refusal(read("GET", url, headers)).code is FaultCode.INVALID_ARGUMENT


def test_no_signature_is_anonymous() -> None:
    """A request without any authentication is anonymous, and a query of version 2 is refused."""
    assert authentication_of(read("GET", "http://store.example/b/k", {})) is None
    url = "http://store.example/b/k?AWSAccessKeyId=a&Signature=b&Expires=1"
    assert refusal(read("GET", url, {})).code is FaultCode.INVALID_REQUEST


def test_canonical_forms() -> None:
    """T17: decoded and encoded once: lower-case escapes, `~`, `*`, `+`, empty values, repeated names."""
    assert canonical_uri(parse_target(b"/b/%7e%2a+%2fa b".replace(b" ", b"%20")).path) == "/b/~%2A%2B/a%20b"
    assert canonical_query(parse_query(b"b=2&b=1&a&c=%2f+*~&X-Amz-Signature=x")) == "a=&b=1&b=2&c=%2F%20%2A~"
    assert canonical_value([b"  a   b\t c ", b"d"]) == b"a b c,d"


@pytest.mark.parametrize("region", ["us-east-1", "auto", ""])
def test_any_region_is_accepted(region: str) -> None:
    """L10: any region in a signature's scope is accepted."""
    scope = Scope("20130524", region)
    signed = "host;x-amz-content-sha256;x-amz-date"
    header = f"AWS4-HMAC-SHA256 Credential=a/{scope}, SignedHeaders={signed}, Signature={'0' * 64}"
    fields = {"authorization": header, "x-amz-date": "20130524T000000Z", "x-amz-content-sha256": EMPTY}
    assert authenticated(read("GET", "http://h/b", fields)).scope == scope


text = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    target=st.binary(max_size=100),
    lines=st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"x-amz-date", b"date", b"x-amz-content-sha256", b"host", b"x-amz-acl"]),
            st.one_of(st.binary(max_size=60), text.map(str.encode)),
        ),
        max_size=6,
    ),
    header=st.one_of(text, text.map(lambda rest: "AWS4-HMAC-SHA256 " + rest)),
    query=st.lists(
        st.sampled_from(
            [
                "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                "X-Amz-Credential=a/20130524/r/s3/aws4_request",
                "X-Amz-Date=20130524T000000Z",
                "X-Amz-Date=20139924T000000Z",
                "X-Amz-Expires=5",
                "X-Amz-SignedHeaders=host",
                "X-Amz-Signature=" + "0" * 64,
            ]
        )
    ),
)
def test_any_bytes_as_authentication(
    target: bytes, lines: list[tuple[bytes, bytes]], header: str, query: list[str]
) -> None:
    """A8: no 500 for garbage: any bytes are anonymous, verified or refused with 4xx or NotImplemented."""
    try:
        head = RequestHead(
            "GET",
            parse_target(b"/" + target + b"?" + "&".join(query).encode()),
            HeaderFields([*lines, (b"authorization", header.encode())] if header else lines),
        )
        found = authentication_of(head)
        if found is not None:
            check_time(found, EXAMPLE_TIME)
            verify(head, found, b"key")
    except S3Fault as fault:
        assert 400 <= fault.status < 500 or fault.code is FaultCode.NOT_IMPLEMENTED


def test_the_time_of_a_date_field() -> None:
    """A Date field serves where x-amz-date is missing; without both the answer is AccessDenied."""
    captured = call("get_object", Bucket="b", Key="k")
    fault = refusal(captured.head(x_amz_date=None))
    assert fault.code is FaultCode.ACCESS_DENIED
    signed_at = datetime.strptime(captured.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    date = signed_at.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert authenticated(captured.head(x_amz_date=None, date=date)).time == captured.headers["X-Amz-Date"]
