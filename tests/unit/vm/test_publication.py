"""Publishing a repository: the order of its files, and what is refused before anything is uploaded."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from tawara.vm.errors import BuildError
from tawara.vm.packager import release_file
from tawara.vm.repository import named_files, publication_stages, repository_files

_REPOMD = """<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="primary">
<checksum type="sha256">{digest}</checksum><location href="repodata/{digest}-primary.xml.gz"/><size>{size}</size>
</data></repomd>"""
_PRIMARY = """<metadata xmlns="http://linux.duke.edu/metadata/common"><package type="rpm">
<checksum type="sha256" pkgid="YES">{digest}</checksum><size package="3"/><location href="a.rpm"/>
</package></metadata>"""


def digest(content: bytes) -> str:
    """A SHA-256."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a package of each kind, as small as one can be."""
    packages = f"Package: a\nFilename: ./a.deb\nSize: 3\nSHA256: {digest(b'deb')}\n".encode()
    primary = gzip.compress(_PRIMARY.format(digest=digest(b"rpm")).encode())
    files = {
        "a.deb": b"deb",
        "a.rpm": b"rpm",
        "Packages": packages,
        f"by-hash/SHA256/{digest(packages)}": packages,
        "Release": release_file({"Packages": packages}, "now").encode(),
        "InRelease": b"signed",
        "key.asc": b"key",
        f"repodata/{digest(primary)}-primary.xml.gz": primary,
        "repodata/repomd.xml": _REPOMD.format(digest=digest(primary), size=len(primary)).encode(),
        ".built": b"{}",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_are_uploaded_before_their_references(repository: Path) -> None:
    """Packages, indexes named by content, other indexes, signatures, and last what apt and dnf read first."""
    stages = publication_stages(repository_files(repository))
    kinds = [{name.split("/")[0] for name in stage} for stage in stages]
    assert kinds == [
        {"a.deb", "a.rpm"},
        {"by-hash", "repodata"},
        {"Packages"},
        {"key.asc"},
        {"InRelease", "Release", "repodata"},
    ]
    assert "repodata/repomd.xml" in stages[-1]


def test_indexes_say_size_and_checksum_of_every_file(repository: Path) -> None:
    """Packages of both kinds and the indexes themselves are named with their SHA-256; heads and signatures are not."""
    files = repository_files(repository)
    for name, named in files.items():
        content = (repository / name).read_bytes()
        if name in ("Release", "InRelease", "key.asc", "repodata/repomd.xml"):
            assert named is None
        else:
            assert named is not None, name
            assert (named.size, named.sha256) == (len(content), digest(content))


def test_files_of_the_builder_are_not_published(repository: Path) -> None:
    """The record of what was built, and drafts of packages, have a dot before their names and stay."""
    assert not [name for name in repository_files(repository) if name.startswith(".")]


@pytest.mark.parametrize("name", ["a.deb", "a.rpm", "Packages"])
def test_a_repository_that_does_not_match_its_indexes_is_refused(repository: Path, name: str) -> None:
    """A file that is missing, or has other content than an index says, is named, and nothing is published."""
    (repository / name).write_bytes(b"xyz")
    with pytest.raises(BuildError, match=f"{name} is another file"):
        repository_files(repository)
    (repository / name).unlink()
    with pytest.raises(BuildError, match=f"{name} is missing"):
        repository_files(repository)


def test_a_directory_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    """A directory without a Release file is refused; a missing directory, too."""
    with pytest.raises(BuildError, match="is not a repository"):
        repository_files(tmp_path)
    assert named_files(lambda name: None) == {}
