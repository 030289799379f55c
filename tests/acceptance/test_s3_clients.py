"""S3: real clients at their defaults. Run as a program it prints docs/compatibility.md, the table of what they do.

Each test is a row of the table. A row that says no is a test that must fail: when it begins to pass, the run demands
that the row be changed, so that the table only gets better.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.acceptance.s3_fixture import REGION, S3Fixture

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".venv-clients" / "bin"
PROGRAMS = Path(__file__).parent / "s3_client_programs"
PAGE = ROOT / "docs" / "compatibility.md"
T = TypeVar("T", bound=Callable[..., None])


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    client: str
    does: str
    works: bool
    remark: str


ROWS: list[Row] = []


def capability(client: str, does: str, *, works: bool = True, remark: str = "") -> Callable[[T], T]:
    """Give a test its row. With `works=False` it must fail, and `remark` says what to do instead."""
    ROWS.append(Row(client, does, works, remark))

    def mark(test: T) -> T:
        if works:
            return test
        marked: T = pytest.mark.xfail(strict=True, reason=remark)(test)
        return marked

    return mark


@dataclass(frozen=True)
class Bench:
    """A bucket, the environment for clients, and a directory for their files."""

    s3: S3Fixture
    bucket: str
    directory: Path
    environment: dict[str, str]

    def run(self, *command: str | Path) -> str:
        """Run a program; its output. It fails the test if the program fails."""
        words = [str(each) for each in command]
        done = subprocess.run(
            words, env=self.environment, cwd=self.directory, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def keys(self) -> list[str]:
        """All keys of the bucket."""
        pages = self.s3.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]


@pytest.fixture
def bench(s3: S3Fixture, s3_bucket: str, tmp_path: Path) -> Bench:
    """What a client needs. HOME is empty, so that each client has its defaults."""
    access_key, _, secret = s3.key.partition(":")
    environment = {
        "PATH": f"{CLIENTS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "LC_ALL": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": s3.endpoint(),
        "AWS_EC2_METADATA_DISABLED": "true",
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENV_AUTH": "true",
        "RCLONE_CONFIG_STORE_ENDPOINT": s3.endpoint(),
        "RCLONE_CONFIG_STORE_REGION": REGION,
        "RESTIC_REPOSITORY": f"s3:{s3.endpoint()}/{s3_bucket}/backup",
        "RESTIC_PASSWORD": "only for this test",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    (tmp_path / "home").mkdir()
    return Bench(s3, s3_bucket, tmp_path, environment)


@pytest.fixture
def tree(bench: Bench) -> Path:
    """A directory of 60 files."""
    root = bench.directory / "tree"
    for number in range(60):
        file = root / f"d {number % 4}" / f"é{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d\n" % number * number)
    return root


def same(one: Path, other: Path) -> bool:
    """Whether two directories have the same files."""
    found = filecmp.dircmp(one, other)
    return not (found.left_only or found.right_only or found.diff_files) and all(
        same(one / each, other / each) for each in found.common_dirs
    )


# --- awscli -----------------------------------------------------------------------------------------------------------


@capability("awscli", "`s3 sync` to the store and back, `s3 cp`, `s3 mv`, `s3 ls`, `s3 rm --recursive`")
def test_awscli(bench: Bench, tree: Path) -> None:
    """`aws s3` copies a directory there and back, moves and lists objects, and removes them."""
    root = f"s3://{bench.bucket}"
    bench.run("aws", "s3", "sync", "tree", f"{root}/tree")
    assert bench.run("aws", "s3", "sync", "tree", f"{root}/tree") == ""
    bench.run("aws", "s3", "cp", "--recursive", f"{root}/tree", "back")
    assert same(tree, bench.directory / "back")
    bench.run("aws", "s3", "mv", f"{root}/tree/d 1/é1.txt", f"{root}/moved")
    assert "moved" in bench.run("aws", "s3", "ls", root)
    bench.run("aws", "s3", "rm", "--recursive", f"{root}/tree")
    assert bench.keys() == ["moved"]


@capability("awscli", "`s3 cp` of 64 MiB in parts, there and back")
def test_awscli_with_a_large_file(bench: Bench) -> None:
    """`aws s3 cp` of 64 MiB uploads parts and downloads ranges; the content is the same."""
    large(bench.directory / "large")
    bench.run("aws", "s3", "cp", "--quiet", "large", f"s3://{bench.bucket}/large")
    assert bench.s3.client().head_object(Bucket=bench.bucket, Key="large")["ETag"].endswith('-8"')
    bench.run("aws", "s3", "cp", "--quiet", f"s3://{bench.bucket}/large", "back")
    assert filecmp.cmp(bench.directory / "large", bench.directory / "back", shallow=False)


@capability("awscli", "`s3 presign`")
def test_awscli_presign(bench: Bench) -> None:
    """A URL of `aws s3 presign` is read without a key."""
    bench.s3.client().put_object(Bucket=bench.bucket, Key="a b", Body=b"hello")
    url = bench.run("aws", "s3", "presign", f"s3://{bench.bucket}/a b").strip()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"hello"


def large(path: Path) -> None:
    """Write 64 MiB of which no two MiB are equal."""
    with path.open("wb") as file:
        for number in range(64):
            file.write(number.to_bytes(4) * 2**18)


# --- boto3 ------------------------------------------------------------------------------------------------------------


@capability("boto3", "`upload_file` and `download_file` of 64 MiB in parts")
def test_boto3_with_a_large_file(bench: Bench) -> None:
    """boto3 uploads 64 MiB in parts and downloads it by ranges with If-Match; the content is the same."""
    large(bench.directory / "large")
    client = bench.s3.client()
    client.upload_file(str(bench.directory / "large"), bench.bucket, "large")
    client.download_file(bench.bucket, "large", str(bench.directory / "back"))
    assert filecmp.cmp(bench.directory / "large", bench.directory / "back", shallow=False)


@capability("boto3", "resources: `Bucket.objects.filter`, `Object.copy_from`, `objects.delete`")
def test_boto3_resources(bench: Bench) -> None:
    """The resource API of boto3 stores, filters, copies and deletes."""
    import boto3

    access_key, _, secret = bench.s3.key.partition(":")
    resource: Any = boto3.resource(
        "s3",
        endpoint_url=bench.s3.endpoint(),
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
    )
    bench.s3.clients.append(resource.meta.client)
    bucket = resource.Bucket(bench.bucket)
    for key in ("a/1", "a/2", "b"):
        bucket.put_object(Key=key, Body=key.encode())
    assert [each.key for each in bucket.objects.filter(Prefix="a/")] == ["a/1", "a/2"]
    resource.Object(bench.bucket, "c").copy_from(CopySource={"Bucket": bench.bucket, "Key": "b"})
    assert resource.Object(bench.bucket, "c").get()["Body"].read() == b"b"
    bucket.objects.filter(Prefix="a/").delete()
    assert bench.keys() == ["b", "c"]


# --- rclone -----------------------------------------------------------------------------------------------------------


@capability("rclone", "`sync`, `check`, `copy`, `moveto`, `lsf`, `purge`; provider `Other`")
def test_rclone(bench: Bench, tree: Path) -> None:
    """rclone copies a directory there and back, compares checksums, moves, lists and removes."""
    root = f"store:{bench.bucket}"
    bench.run("rclone", "sync", "tree", f"{root}/tree")
    bench.run("rclone", "check", "tree", f"{root}/tree")
    (tree / "d 0" / "é0.txt").write_text("changed")
    shutil.rmtree(tree / "d 3")
    bench.run("rclone", "sync", "tree", f"{root}/tree")
    bench.run("rclone", "check", "tree", f"{root}/tree")
    bench.run("rclone", "copy", f"{root}/tree", "back")
    assert same(tree, bench.directory / "back")
    bench.run("rclone", "moveto", f"{root}/tree/d 0/é0.txt", f"{root}/moved")
    assert bench.run("rclone", "lsf", root).split() == ["moved", "tree/"]
    bench.run("rclone", "purge", f"{root}/tree")
    assert bench.keys() == ["moved"]


# --- s3cmd ------------------------------------------------------------------------------------------------------------


@capability("s3cmd", "`put`, `ls`, `get`, `sync`, `cp`, `del`")
def test_s3cmd(bench: Bench, tree: Path) -> None:
    """s3cmd stores, lists, reads, copies and removes, and compares MD5 when it syncs."""
    host = bench.s3.endpoint().removeprefix("http://")
    options = ("--no-ssl", f"--host={host}", f"--host-bucket={host}", f"--region={REGION}", "--no-progress", "--quiet")
    root = f"s3://{bench.bucket}"
    bench.run("s3cmd", *options, "sync", "tree/", f"{root}/tree/")
    bench.run("s3cmd", *options, "sync", f"{root}/tree/", "back/")
    assert same(tree, bench.directory / "back")
    bench.run("s3cmd", *options, "cp", f"{root}/tree/d 1/é1.txt", f"{root}/copy")
    bench.run("s3cmd", *options, "get", f"{root}/copy", "copy")
    assert (bench.directory / "copy").read_bytes() == b"1\n"
    listed = bench.run("s3cmd", *(each for each in options if each != "--quiet"), "ls", root)
    assert re.findall(rf"{root}/(\S+)", listed) == ["tree/", "copy"]
    bench.run("s3cmd", *options, "del", "--recursive", f"{root}/tree/")
    assert bench.keys() == ["copy"]


# --- restic -----------------------------------------------------------------------------------------------------------


@capability("restic", "`init`, `backup`, `check --read-data`, `restore`, `forget --prune`")
def test_restic(bench: Bench, tree: Path) -> None:
    """restic keeps backups in the store, checks every byte of them, restores and prunes them."""
    (tree / "noise").write_bytes(os.urandom(20 * 2**20))
    restic = ("restic", "--option", f"s3.region={REGION}", "--quiet")
    bench.run(*restic, "init")
    bench.run(*restic, "backup", "tree")
    (tree / "noise").write_bytes(os.urandom(1000))
    bench.run(*restic, "backup", "tree")
    bench.run(*restic, "check", "--read-data")
    bench.run(*restic, "restore", "latest", "--target", "back")
    assert same(tree, bench.directory / "back" / "tree")
    before = sum(each["Size"] for each in bench.s3.client().list_objects_v2(Bucket=bench.bucket)["Contents"])
    bench.run(*restic, "forget", "--keep-last", "1", "--prune", "--max-unused", "0")
    after = sum(each["Size"] for each in bench.s3.client().list_objects_v2(Bucket=bench.bucket)["Contents"])
    assert after < before / 2
    bench.run(*restic, "check")


# --- libraries --------------------------------------------------------------------------------------------------------


def run_program(bench: Bench, name: str) -> None:
    """Run a program of ours in the clients' environment."""
    access_key, _, secret = bench.s3.key.partition(":")
    program = PROGRAMS / f"with_{name}.py"
    bench.run(CLIENTS / "python", program, bench.s3.endpoint(), access_key, secret, bench.bucket, REGION)


@capability("minio-py", "put (of unknown length, too), get, stat, list, copy, tags, presigned URLs, removal of many")
def test_minio(bench: Bench) -> None:
    """minio-py at its defaults does what its programs need."""
    run_program(bench, "minio")


@capability("s3fs (fsspec)", "files, seeking, copy, move, find, recursive removal; pyarrow writes and filters Parquet")
def test_s3fs(bench: Bench) -> None:
    """s3fs has files by fsspec, of which pyarrow reads parts."""
    run_program(bench, "s3fs")


@capability("django-storages", "uploads by a form, listings, presigned pictures in a page, removal")
def test_django_storages(bench: Bench) -> None:
    """A Django site keeps its uploads in the store by django-storages, and shows them by presigned URLs."""
    run_program(bench, "django")


# --- the page ---------------------------------------------------------------------------------------------------------


def page() -> str:
    """Render docs/compatibility.md."""
    lines = [HEAD]
    for each in ROWS:
        lines.append(f"| {each.client} | {each.does} | {'yes' if each.works else '**no**'} | {each.remark} |")
    return "\n".join([*lines, "", LIMITS])


HEAD = """\
# Clients of S3

Written by `make docs` from `tests/acceptance/test_s3_clients.py`: each row is a test, in which the client runs at its
defaults but for endpoint, region and key. A row that says no is a test that must fail, so that the row is changed when
it begins to pass. `requirements-clients.lock` has the versions; restic and s3cmd are Debian's.

| client | what was run | works | remark |
|---|---|---|---|"""
LIMITS = """\
## What no client can do
* Keys whose `..` climbs above the root of the URL, with a NUL, or that begin with U+10FFFF are refused.
* Versions, object lock, policies, ACLs that give others access, CORS, lifecycle, notification and encryption: they are
  refused, and NotImplemented 501 names the operation or the header fields.
* Signatures of version 2 in header fields: InvalidRequest.
"""


def test_the_page_lists_them() -> None:
    """docs/compatibility.md is what the tests say: `make docs` writes it."""
    assert PAGE.read_text() == page()


if __name__ == "__main__":
    print(page(), end="")
