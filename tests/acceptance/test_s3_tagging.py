"""S3: tags of objects and buckets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.s3_fixture import S3Fixture, refusal


def tag_set(*tags: tuple[str, str]) -> dict[str, Any]:
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags]}


@pytest.fixture
def hello(s3: S3Fixture, s3_bucket: str) -> dict[str, str]:
    """An object with metadata."""
    s3.client().put_object(Bucket=s3_bucket, Key="k", Body=b"hello", Metadata={"a": "b"})
    return {"Bucket": s3_bucket, "Key": "k"}


def test_tags_of_an_object(s3_client: Any, hello: dict[str, str]) -> None:
    """Tags are set, counted, replaced and removed, while content, metadata and entity tag stay."""
    before = s3_client.head_object(**hello)
    assert s3_client.get_object_tagging(**hello)["TagSet"] == []
    for tags in (tag_set(("a b", "c"), ("é", "")), tag_set(("x", "y"))):
        s3_client.put_object_tagging(**hello, Tagging=tags)
        assert s3_client.get_object_tagging(**hello)["TagSet"] == tags["TagSet"]
        head = s3_client.head_object(**hello)
        assert head["TagCount"] == len(tags["TagSet"])
        assert (head["ETag"], head["Metadata"], head["LastModified"]) == (
            before["ETag"],
            {"a": "b"},
            before["LastModified"],
        )
    s3_client.delete_object_tagging(**hello)
    assert s3_client.get_object_tagging(**hello)["TagSet"] == []
    found = s3_client.get_object(**hello)
    assert (found["Body"].read(), "TagCount" in found) == (b"hello", False)


def test_limits_of_object_tags(s3: S3Fixture, hello: dict[str, str]) -> None:
    """More than ten tags, a key of more than 128 or a value of more than 256 characters are InvalidTag."""
    client = s3.client()
    client.put_object_tagging(**hello, Tagging=tag_set(*((f"{number:0128}", "v" * 256) for number in range(10))))
    wrong = (tuple((str(number), "") for number in range(11)), (("k" * 129, ""),), (("k", "v" * 257),))
    for tags in wrong:
        assert refusal(client.put_object_tagging, **hello, Tagging=tag_set(*tags)) == ("InvalidTag", 400)
    assert len(client.get_object_tagging(**hello)["TagSet"]) == 10
    absent = hello | {"Key": "absent"}
    for call, more in (
        (client.get_object_tagging, {}),
        (client.put_object_tagging, {"Tagging": tag_set()}),
        (client.delete_object_tagging, {}),
    ):
        assert refusal(call, **absent, **more) == ("NoSuchKey", 404)


def test_tags_of_puts_and_copies(s3: S3Fixture, hello: dict[str, str]) -> None:
    """x-amz-tagging gives a new object its tags; a copy has those of its source, or with REPLACE its own."""
    client = s3.client()
    client.put_object(**hello, Body=b"hello", Tagging="foo=bar&bar")
    tags = tag_set(("foo", "bar"), ("bar", ""))["TagSet"]
    assert client.get_object_tagging(**hello)["TagSet"] == tags
    copy = {"Bucket": hello["Bucket"], "CopySource": hello, "Key": "copy"}
    target = {"Bucket": hello["Bucket"], "Key": "copy"}
    client.copy_object(**copy, MetadataDirective="REPLACE", Metadata={})
    assert client.get_object_tagging(**target)["TagSet"] == tags
    client.copy_object(**copy, TaggingDirective="REPLACE", Tagging="c=d")
    assert client.get_object_tagging(**target)["TagSet"] == tag_set(("c", "d"))["TagSet"]
    assert refusal(client.put_object, **hello, Body=b"", Tagging="&".join(f"{n}=" for n in range(11)))[1] == 400
    upload = client.create_multipart_upload(**hello, Tagging="m=p")["UploadId"]
    part = {**hello, "UploadId": upload}
    etag = client.upload_part(**part, PartNumber=1, Body=b"part")["ETag"]
    client.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert client.get_object_tagging(**hello)["TagSet"] == tag_set(("m", "p"))["TagSet"]


def test_tags_of_a_bucket(s3_client: Any, s3_bucket: str) -> None:
    """Tags of a bucket are set, replaced and removed; without them NoSuchTagSet 404."""
    bucket = {"Bucket": s3_bucket}
    assert refusal(s3_client.get_bucket_tagging, **bucket) == ("NoSuchTagSet", 404)
    for tags in (tag_set(("Hello", "World")), tag_set(("a", "b"), ("c", "d"))):
        s3_client.put_bucket_tagging(**bucket, Tagging=tags)
        assert s3_client.get_bucket_tagging(**bucket)["TagSet"] == tags["TagSet"]
    s3_client.delete_bucket_tagging(**bucket)
    assert refusal(s3_client.get_bucket_tagging, **bucket) == ("NoSuchTagSet", 404)


def test_who_may_tag(s3: S3Fixture, hello: dict[str, str]) -> None:
    """Tags of objects need the right to read or to write, those of a bucket to administer it."""
    reader = s3.client(key=s3.run(s3.store.create_key(f"tag-reader-{hello['Bucket']}", f"{hello['Bucket']}=r")))
    writer = s3.client(key=s3.run(s3.store.create_key(f"tag-writer-{hello['Bucket']}", f"{hello['Bucket']}=w")))
    assert reader.get_object_tagging(**hello)["TagSet"] == []
    writer.put_object_tagging(**hello, Tagging=tag_set(("a", "b")))
    for call, more in (
        (reader.put_object_tagging, {"Tagging": tag_set()}),
        (reader.delete_object_tagging, {}),
        (writer.get_object_tagging, {}),
    ):
        assert refusal(call, **hello, **more) == ("AccessDenied", 403)
    bucket = {"Bucket": hello["Bucket"]}
    assert refusal(writer.put_bucket_tagging, **bucket, Tagging=tag_set(("a", "b"))) == ("AccessDenied", 403)
