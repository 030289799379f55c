"""s3fs: files by fsspec, and a Parquet file by pyarrow. Arguments: endpoint, id, secret, bucket, region."""
# mypy: ignore-errors

import sys

import fsspec
import pyarrow
import pyarrow.parquet

endpoint, access_key, secret, bucket, region = sys.argv[1:]
options = {"key": access_key, "secret": secret, "client_kwargs": {"endpoint_url": endpoint, "region_name": region}}
files = fsspec.filesystem("s3", **options)
with files.open(f"{bucket}/notes/a.txt", "wb") as file:
    file.write(b"hello\n" * 1000)
with files.open(f"{bucket}/notes/a.txt", "rb") as file:
    file.seek(6)
    assert file.read(5) == b"hello"
table = pyarrow.table({"n": list(range(10_000)), "text": [str(number) for number in range(10_000)]})
pyarrow.parquet.write_table(table, f"{bucket}/data/t.parquet", filesystem=files, row_group_size=1000)
found = pyarrow.parquet.read_table(
    f"{bucket}/data/t.parquet", filesystem=files, columns=["n"], filters=[("n", ">=", 9_990)]
)
assert found["n"].to_pylist() == list(range(9_990, 10_000))
assert files.find(bucket) == [f"{bucket}/data/t.parquet", f"{bucket}/notes/a.txt"]
files.copy(f"{bucket}/notes/a.txt", f"{bucket}/notes/b.txt")
files.mv(f"{bucket}/notes/b.txt", f"{bucket}/notes/c.txt")
assert files.ls(f"{bucket}/notes", refresh=True) == [f"{bucket}/notes/a.txt", f"{bucket}/notes/c.txt"]
files.rm(f"{bucket}/notes", recursive=True)
files.invalidate_cache()
assert files.find(bucket) == [f"{bucket}/data/t.parquet"]
