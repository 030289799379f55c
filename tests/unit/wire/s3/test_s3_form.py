"""Forms of uploads: fields and file in pieces of any size, limits, answers, and forms that are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.form import LONGEST_FIELDS, FormReader, FormValues, success_reply

TYPE = "multipart/form-data; boundary=XX"


def encoded(fields: list[tuple[str, str]], file: bytes | None = b"data", filename: str = "a.txt") -> bytes:
    """A form as browsers send it."""
    parts = [f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields]
    body = "".join(parts).encode()
    if file is not None:
        head = f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
        body += head.encode() + file + b"\r\n"
    return body + b"--XX--\r\n"


def read_form(body: bytes, size: int = 65_536, content_type: str = TYPE) -> tuple[FormValues, bytes]:
    """Fields and file of a form that arrives in pieces of `size` bytes. Raises S3Fault."""
    reader = FormReader(content_type)
    file = b"".join(piece for at in range(0, len(body), size) for piece in reader.feed(body[at : at + size]))
    if reader.file is None or not reader.is_complete:
        reader.end()
    return reader.values(reader.file), file


def refusal(function: Any, *args: Any) -> S3Fault:
    with pytest.raises(S3Fault) as raised:
        function(*args)
    return raised.value


@given(
    file=st.lists(st.sampled_from([b"\r\n", b"--XX", b"--", b"x" * 50, b"\0", b"\r"]), max_size=12).map(b"".join),
    size=st.integers(1, 200),
)
def test_forms_in_pieces(file: bytes, size: int) -> None:
    """A7: fields and file come back however the body is divided, also a file with parts of the boundary in it."""
    if b"\r\n--XX" in b"\r\n" + file:
        file = file.replace(b"--XX", b"--XY")
    values, found = read_form(encoded([("Key", "up/${filename}"), ("X-Amz-Meta-A", "é")], file), size)
    assert (values, values.filename, found) == ({"key": "up/${filename}", "x-amz-meta-a": "é"}, "a.txt", file)


def test_which_fields_stand_for_header_fields() -> None:
    """A7: fields of a PUT are taken, those of the signature are not; what follows the file is ignored."""
    fields = [("key", "k"), ("content-type", "text/x"), ("x-amz-date", "d"), ("acl", "private"), ("other", "o")]
    body = encoded(fields).removesuffix(b"--XX--\r\n") + encoded([("late", "1")])
    values, _ = read_form(body)
    assert list(values.header_lines()) == [(b"content-type", b"text/x"), (b"x-amz-acl", b"private")]
    assert "late" not in values
    assert values.required("key") == "k"
    assert refusal(values.required, "absent").code is FaultCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (encoded([("key", "k")], None), FaultCode.INVALID_ARGUMENT),
        (encoded([("key", "k"), ("KEY", "l")]), FaultCode.INVALID_ARGUMENT),
        (encoded([("key", "x" * (LONGEST_FIELDS + 1))]), FaultCode.MAX_POST_PRE_DATA_LENGTH),
        (encoded([(f"f{number}", "") for number in range(101)]), FaultCode.MALFORMED_POST),
        (b"--XX\r\n\r\nvalue\r\n--XX--", FaultCode.MALFORMED_POST),
        (b"--XX\r\nContent-Disposition: form-data\r\n\r\n\r\n--XX--", FaultCode.MALFORMED_POST),
        (b"--XX\r\n" + b"a" * 9000, FaultCode.MALFORMED_POST),
        (b"--XX\r\nContent-Disposition: form-data; name=k\r\n\r\n\xff\r\n--XX--", FaultCode.MALFORMED_POST),
        (encoded([])[:-9], FaultCode.INCOMPLETE_BODY),
        (b"garbage--XX\r\n", FaultCode.MALFORMED_POST),
    ],
)
def test_malformed_forms(body: bytes, code: FaultCode) -> None:
    """A7: a form without a file, with a field twice, too long or not well-formed is refused with 400."""
    fault = refusal(read_form, body)
    assert (fault.code, fault.status) == (code, 400)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_forms_without_a_boundary(content_type: str) -> None:
    """A form without a boundary is MalformedPOSTRequest."""
    assert refusal(read_form, b"", 1, content_type).code is FaultCode.MALFORMED_POST


@given(
    body=st.one_of(
        st.binary(max_size=200), st.lists(st.sampled_from([b"--XX", b"\r\n", b"--", b"a: b", b"x"])).map(b"".join)
    )
)
def test_any_bytes_as_a_form(body: bytes) -> None:
    """Any bytes as a form are read or refused with 4xx."""
    reader = FormReader(TYPE)
    try:
        reader.feed(body)
    except S3Fault as fault:
        assert 400 <= fault.status < 500


def answer(**fields: str) -> tuple[int, dict[str, str], bytes]:
    values = FormValues(fields)
    return success_reply(values, "b", b"a b", '"e"', "http://h/b/")


def test_answers_to_forms() -> None:
    """A7: the answer is 204, or 200 or 201 if asked for, or a redirection with bucket, key and entity tag."""
    assert answer() == (204, {"etag": '"e"', "location": "http://h/b/a%20b"}, b"")
    assert answer(success_action_status="200")[0] == 200
    status, _, body = answer(success_action_status="201")
    assert status == 201
    assert b"<PostResponse><Location>http://h/b/a%20b</Location><Bucket>b</Bucket><Key>a b</Key>" in body
    status, fields, _ = answer(success_action_redirect="https://app.example/done?x=1")
    assert (status, fields["location"]) == (303, "https://app.example/done?x=1&bucket=b&key=a+b&etag=%22e%22")


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "/relative", "http://h/\r\nX: y", "http://é/", "http://[", "http:"]
)
def test_redirections_that_are_no_urls(url: str) -> None:
    """A redirection that is no URL of http is passed over, and never becomes another header field."""
    assert answer(success_action_redirect=url)[0] == 204
