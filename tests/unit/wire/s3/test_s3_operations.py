"""The table of operations, compared with AWS's model."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.model import OperationModel, Shape
from botocore.serialize import create_serializer

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.operations import OPERATIONS, OURS, operation_of
from tests.unit.wire.s3.oracle import model, read

SAME_REQUEST = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListDirectoryBuckets": "ListBuckets",
}
"""Operations of the model whose requests cannot be told from those of another."""
ELSEWHERE = {"WriteGetObjectResponse"}
"""Operations at another host than the store's."""
PLACES = ("uri", "querystring", "header")


def sample(shape: Shape) -> Any:
    """A value of a shape."""
    if shape.type_name == "structure" and getattr(shape, "is_tagged_union", False):
        name = next(iter(shape.members))
        return {name: sample(shape.members[name])}
    if shape.type_name == "structure":
        return {name: sample(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [sample(shape.member)]
    if shape.type_name == "map":
        return {}
    if shape.type_name in ("integer", "long"):
        return 1
    if shape.type_name == "boolean":
        return True
    if shape.type_name == "blob":
        return b"x"
    if shape.type_name == "timestamp":
        return "2026-12-01T00:00:00Z"
    return (getattr(shape, "enum", None) or ["name" * shape.metadata.get("min", 1)])[0]


def serialized(operation: OperationModel) -> dict[str, Any]:
    """A request of the operation as botocore's serializer makes it."""
    shape = operation.input_shape
    parameters = {} if shape is None else sample(shape)
    request: dict[str, Any] = create_serializer("rest-xml").serialize_to_request(parameters, operation)
    return request


def operation_named(request: dict[str, Any]) -> str:
    """The operation that we find in a request; for those that are not ours, the one that the fault names."""
    query = request["query_string"]
    if not isinstance(query, str):
        query = "&".join(f"{name}={value}" for name, value in query.items())
    path = request["url_path"]
    joined = path + ("&" if "?" in path else "?") + query
    head = read(request["method"], f"http://store.example{joined}", request["headers"])
    try:
        return operation_of(head).name
    except S3Fault as fault:
        assert fault.code is FaultCode.NOT_IMPLEMENTED
        return fault.message.removeprefix("This server does not implement ")


@pytest.mark.parametrize("name", [name for name in model().operation_names if name not in ELSEWHERE])
def test_each_operation_of_the_model_is_recognised(name: str) -> None:
    """P6: each operation of AWS's model is recognised; one that is not ours answers NotImplemented with its name."""
    assert operation_named(serialized(model().operation_model(name))) == SAME_REQUEST.get(name, name)


def test_the_table_names_operations_of_the_model() -> None:
    """The table has exactly the operations of the model, and the form upload, which the model does not have."""
    names = {each.name for each in OPERATIONS}
    expected = set(model().operation_names) - ELSEWHERE - SAME_REQUEST.keys()
    assert names - {"PostObject"} == expected
    assert len(names) == len(OPERATIONS)


def test_how_many_are_ours() -> None:
    """Sixty operations are ours; the model has some of them under older names, too."""
    assert len(OURS) == 60


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PATCH", "/b/k"),
        ("POST", "/"),
        ("DELETE", "/"),
        ("POST", "/b/k"),
        ("TRACE", "/b"),
        ("DELETE", "/b/k?uploads"),
        ("PUT", "/b?location"),
    ],
)
def test_no_such_operation(method: str, target: str) -> None:
    """A method that the resource does not have is MethodNotAllowed; a sub-resource is never taken for its owner."""
    with pytest.raises(S3Fault) as raised:
        operation_of(read(method, f"http://store.example{target}", {}))
    assert raised.value.code is FaultCode.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    ("method", "target", "headers", "name"),
    [
        ("GET", "/b?list-type=2&prefix=uploads", {}, "ListObjectsV2"),
        ("GET", "/b?list-type=3", {}, "ListObjects"),
        ("GET", "/b/?delimiter=/", {}, "ListObjects"),
        ("GET", "/b/k?versionId=null&response-content-type=x", {}, "GetObject"),
        ("GET", "/b/k?partNumber=1", {}, "GetObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=x", {"x-amz-copy-source": "b/k"}, "UploadPartCopy"),
        ("PUT", "/b/k?partNumber=1&uploadId=x", {}, "UploadPart"),
        ("PUT", "/b/k", {"X-Amz-Copy-Source": "b/k"}, "CopyObject"),
        ("POST", "/b?delete", {}, "DeleteObjects"),
        ("POST", "/b", {}, "PostObject"),
    ],
)
def test_which_operation(method: str, target: str, headers: dict[str, str], name: str) -> None:
    """Parameters and header fields decide between operations of one method and resource."""
    assert operation_of(read(method, f"http://store.example{target}", headers)).name == name
