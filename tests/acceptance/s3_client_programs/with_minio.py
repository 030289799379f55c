"""minio-py: stores, lists, reads, copies and removes objects. Arguments: endpoint, id, secret, bucket, region."""
# mypy: ignore-errors

import io
import sys
import urllib.request

from minio import Minio
from minio.commonconfig import CopySource, Tags
from minio.deleteobjects import DeleteObject

endpoint, access_key, secret, bucket, region = sys.argv[1:]
client = Minio(endpoint.removeprefix("http://"), access_key=access_key, secret_key=secret, secure=False)
assert client.bucket_exists(bucket_name=bucket)
data = b"hello" * 1000
client.put_object(
    bucket_name=bucket, object_name="a/b c", data=io.BytesIO(data), length=len(data), metadata={"my_key": "v"}
)
client.put_object(bucket_name=bucket, object_name="stream", data=io.BytesIO(data), length=-1, part_size=5 * 1024 * 1024)
for name in ("a/b c", "stream"):
    answer = client.get_object(bucket_name=bucket, object_name=name)
    assert answer.read() == data
    answer.close()
    answer.release_conn()
found = client.stat_object(bucket_name=bucket, object_name="a/b c")
assert found.metadata["x-amz-meta-my_key"] == "v"
assert {each.object_name for each in client.list_objects(bucket_name=bucket)} == {"a/", "stream"}
client.copy_object(bucket_name=bucket, object_name="copy", source=CopySource(bucket_name=bucket, object_name="stream"))
tags = Tags.new_object_tags()
tags["a"] = "b"
client.set_object_tags(bucket_name=bucket, object_name="copy", tags=tags)
assert client.get_object_tags(bucket_name=bucket, object_name="copy") == tags
with urllib.request.urlopen(client.presigned_get_object(bucket_name=bucket, object_name="copy")) as answer:
    assert answer.read() == data
every = [DeleteObject(each.object_name) for each in client.list_objects(bucket_name=bucket, recursive=True)]
assert len(every) == 3
assert list(client.remove_objects(bucket_name=bucket, delete_object_list=every)) == []
assert list(client.list_objects(bucket_name=bucket)) == []
