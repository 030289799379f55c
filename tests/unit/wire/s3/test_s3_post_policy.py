"""Uploads by browser forms: forms that botocore signs, conditions, and what is refused."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.post_policy import (
    check_policy,
    check_post_length,
    parse_policy,
    parse_post_authentication,
    post_key,
    success_status,
    verify_post,
)
from tawara.wire.s3.signature import signing_key
from tests.unit.wire.s3.oracle import ACCESS_KEY_ID, SECRET, client

NOW = 1_700_000_000
EXPIRATION = "2023-11-14T22:13:21.000Z"
"""One second after NOW."""


def encoded(conditions: Any, expiration: Any = EXPIRATION) -> str:
    return base64.b64encode(json.dumps({"expiration": expiration, "conditions": conditions}).encode()).decode()


def refusal(function: Any, *args: Any) -> S3Fault:
    with pytest.raises(S3Fault) as raised:
        function(*args)
    return raised.value


def test_forms_of_botocore() -> None:
    """A7: a form that botocore signs verifies, and its fields satisfy its policy."""
    maker: Any = client()
    post = maker.generate_presigned_post(
        "b",
        "up/${filename}",
        Fields={"acl": "private"},
        Conditions=[{"acl": "private"}, ["content-length-range", 1, 9]],
    )
    form = {name.lower(): value for name, value in post["fields"].items()}
    authentication = parse_post_authentication(form)
    assert authentication is not None
    assert authentication.access_key_id == ACCESS_KEY_ID
    assert authentication.scope is not None
    key = signing_key(SECRET, authentication.scope)
    verify_post(authentication, key)
    policy = parse_policy(form["policy"])
    check_policy(policy, form, "b", policy.expires - 1)
    assert policy.length == (1, 9)
    assert refusal(check_policy, policy, form, "b", policy.expires).code is FaultCode.ACCESS_DENIED
    assert refusal(check_policy, policy, form, "other", 0).code is FaultCode.ACCESS_DENIED
    assert refusal(verify_post, authentication, key[::-1]).code is FaultCode.SIGNATURE_DOES_NOT_MATCH


def test_forms_signed_by_version_two() -> None:
    """A7: forms of old uploaders, signed by HMAC-SHA1 of the policy, verify, too."""
    policy = encoded([])
    signature = base64.b64encode(hmac.digest(SECRET.encode(), policy.encode(), "sha1")).decode()
    form = {"awsaccesskeyid": ACCESS_KEY_ID, "signature": signature, "policy": policy}
    found = parse_post_authentication(form)
    assert found is not None
    assert (found.access_key_id, found.scope) == (ACCESS_KEY_ID, None)
    verify_post(found, SECRET.encode())
    assert refusal(verify_post, found, b"other").code is FaultCode.SIGNATURE_DOES_NOT_MATCH
    for name in form:
        part = {each: value for each, value in form.items() if each != name}
        assert refusal(parse_post_authentication, part).code is FaultCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("conditions", "form", "allowed"),
    [
        ([["eq", "$key", "a"]], {"key": "a"}, True),
        ([["eq", "$key", "a"]], {"key": "b"}, False),
        ([["starts-with", "$key", "up/"]], {"key": "up/x"}, True),
        ([["starts-with", "$key", ""]], {"key": "anything"}, True),
        ([["starts-with", "$key", "up/"]], {"key": "x"}, False),
        ([["STARTS-WITH", "$KEY", "up/"]], {"key": "up/x"}, True),
        ([{"Key": "a"}], {"key": "a"}, True),
        ([{"key": "a"}], {"key": "a", "acl": "public-read"}, False),
        ([{"key": "a"}], {"key": "a", "x-amz-checksum-crc32": "AAAAAA=="}, True),
        ([{"key": "a"}], {"key": "a", "x-ignore-me": "1", "policy": "p", "x-amz-signature": "s", "file": ""}, True),
        ([{"key": "a"}, {"acl": "private"}], {"key": "a"}, False),
        ([{"bucket": "b"}, {"key": "a"}], {"key": "a"}, True),
        ([{"bucket": "c"}, {"key": "a"}], {"key": "a"}, False),
    ],
)
def test_conditions_on_fields(conditions: list[Any], form: dict[str, str], allowed: bool) -> None:
    """A7: every field needs a condition that holds; names are compared without case."""
    policy = parse_policy(encoded(conditions))
    if allowed:
        check_policy(policy, form, "b", NOW)
    else:
        assert refusal(check_policy, policy, form, "b", NOW).code is FaultCode.ACCESS_DENIED


def test_the_length_of_the_file() -> None:
    """A7: content-length-range bounds the file: EntityTooSmall, EntityTooLarge."""
    policy = parse_policy(encoded([["content-length-range", 2, "4"]]))
    for length, code in ((1, FaultCode.ENTITY_TOO_SMALL), (5, FaultCode.ENTITY_TOO_LARGE)):
        assert refusal(check_post_length, policy, length).code is code
    check_post_length(policy, 2)
    check_post_length(policy, 4)
    check_post_length(parse_policy(encoded([])), 10**12)


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "!",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b"\xff").decode(),
        base64.b64encode(b"[" * 9000).decode(),
        encoded("x"),
        encoded([["eq", "key", "a"]]),
        encoded([["near", "$key", "a"]]),
        encoded([["eq", "$key"]]),
        encoded([["eq", "$key", 5]]),
        encoded([{"key": 5}]),
        encoded([{}]),
        encoded([["content-length-range", -1, 5]]),
        encoded([["content-length-range", True, 5]]),
        encoded([5]),
        encoded([], "soon"),
        encoded([], "2023-99-99T00:00:00Z"),
        encoded([], None),
        encoded([{"key": "a"}] * 201),
        "QQ==" * 10_000,
    ],
)
def test_malformed_policies(policy: str) -> None:
    """T15: a policy that cannot be read is refused with InvalidPolicyDocument, never passed over."""
    assert refusal(parse_policy, policy).code is FaultCode.INVALID_POLICY_DOCUMENT


@given(
    policy=st.one_of(
        st.text(max_size=50),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
        ).map(encoded),
    )
)
def test_any_policy(policy: str) -> None:
    """Any text as policy is read or refused with 4xx."""
    try:
        parse_policy(policy)
    except S3Fault as fault:
        assert fault.code is FaultCode.INVALID_POLICY_DOCUMENT


def test_missing_fields() -> None:
    """A7: a form without any authentication is anonymous, one with half of it InvalidArgument."""
    assert parse_post_authentication({"key": "k"}) is None
    assert refusal(parse_post_authentication, {"policy": "p"}).code is FaultCode.INVALID_ARGUMENT
    form = {
        "policy": "p",
        "x-amz-algorithm": "AWS4",
        "x-amz-credential": "c",
        "x-amz-date": "d",
        "x-amz-signature": "s",
    }
    assert refusal(parse_post_authentication, form).code is FaultCode.INVALID_ARGUMENT
    form["x-amz-algorithm"] = "AWS4-HMAC-SHA256"
    assert refusal(parse_post_authentication, form).code is FaultCode.INVALID_ARGUMENT


def test_names_and_statuses() -> None:
    """A7: `${filename}` is the name of the file without its directory; the status of success is 200, 201 or 204."""
    assert post_key("up/${filename}", "C:\\photos\\a.png") == "up/a.png"
    assert post_key("up/x", "a.png") == "up/x"
    assert [success_status({"success_action_status": each}) for each in ("200", "201", "204", "404")] == [
        200,
        201,
        204,
        204,
    ]
    assert success_status({}) == 204
