"""T11: a part of an upload is shown by no interface of a running store, and goes with its domain."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import boto3
import pytest

from tawara.client import Client
from tawara.model.errors import InvalidKey, UnknownKey
from tawara.model.reserved_keys import part_key
from tests.acceptance.store import Store, free_ports, store

BODY = b"part of an upload"


def s3_client(one: Store, port: int) -> tuple[Any, str]:
    """A boto3 client of the store, and its key as ID:SECRET."""
    made = one.run("key", "create", "app", "--domain", "*=rwa", "--json", "-c", str(one.directory / "tawara.toml"))
    key = json.loads(made.stdout)
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=key["id"],
        aws_secret_access_key=key["secret"],
    )
    return client, f"{key['id']}:{key['secret']}"


def test_a_part_is_no_file(tmp_path: Path) -> None:
    """Status, trackers, HTTP and the removal of a domain know nothing of a part; S3 lists it with its upload only."""
    (port,) = free_ports(1)
    with store(tmp_path / "store", f"--set=s3.listen=127.0.0.1:{port}") as one:
        client, key = s3_client(one, port)
        client.create_bucket(Bucket="photos")
        upload = client.create_multipart_upload(Bucket="photos", Key="k")["UploadId"]
        client.upload_part(Bucket="photos", Key="k", UploadId=upload, PartNumber=1, Body=BODY)
        assert [each["UploadId"] for each in client.list_multipart_uploads(Bucket="photos")["Uploads"]] == [upload]

        found = json.loads(one.run("status", "--recount", "--json", check=False).stdout)
        assert found["files"]["files"] == found["files"]["one_failure_from_loss"] == 0
        hidden = part_key(upload, 1)
        with Client(one.tracker) as tracker:
            assert list(tracker.list_keys("photos")) == []
            for ask in (tracker.info, tracker.delete, tracker.paths):
                with pytest.raises(UnknownKey):
                    ask("photos", hidden)
            with pytest.raises(InvalidKey):
                tracker.put("photos", hidden, b"x")

        headers = {"Authorization": f"Bearer {key}"}
        for method in ("GET", "PUT", "DELETE"):
            url = f"http://{one.gateway}/photos/{quote(hidden)}"
            asked = urllib.request.Request(url, method=method, headers=headers, data=b"x" if method == "PUT" else None)
            with pytest.raises(HTTPError) as refused:
                urllib.request.urlopen(asked, timeout=30)
            assert refused.value.code in (400, 404)

        said = one.run("domain", "remove", "photos", "--dry-run").stdout
        assert "is empty" in said
        assert "1 upload" in said
        assert client.list_parts(Bucket="photos", Key="k", UploadId=upload)["Parts"][0]["Size"] == len(BODY)
        client.delete_bucket(Bucket="photos")
        one.stop()
