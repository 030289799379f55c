"""Our writers of disk formats (qcow2, cpio, tar, debugfs scripts, keys), checked with the tools that read them."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tawara.vm import qcow2, tree
from tawara.vm.disk import write_qcow2
from tawara.vm.ext4 import script
from tawara.vm.hostkey import dropbear_host_key, private_bytes
from tawara.vm.initrd import dependencies, load_order, write_cpio

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="bin/setup-vm installs qemu-img")


@given(st.sampled_from([12, 16]), st.sets(st.integers(0, 5000), max_size=60), st.booleans())
def test_a_qcow2s_parts_do_not_overlap(bits: int, numbers: set[int], backed: bool) -> None:
    """The file is as long as its refcounts say, and every cluster is counted once."""
    layout = qcow2.Layout(bits, 6000 << bits, "/base.qcow2" if backed else None, tuple(sorted(numbers)))
    written = b"".join(qcow2.write(layout, (bytes([n % 256]) * layout.cluster for n in layout.numbers)))
    _, _, total = layout.refcount_shape()
    assert len(written) == total * layout.cluster


@needs_qemu_img
@pytest.mark.parametrize("bits", [12, 16])
def test_qemu_finds_base_and_delta_equal_to_the_changed_disk(tmp_path: Path, bits: int) -> None:
    """qemu-img check is clean, and base plus delta compare equal to the disk that was changed."""
    old, new = tmp_path / "old.raw", tmp_path / "new.raw"
    with old.open("wb") as out:
        out.truncate(64 << 20)
        out.seek(5 << 20)
        out.write(b"old" * 100_000)
    shutil.copy(old, new)
    with new.open("r+b") as out:
        for place in (0, (5 << 20) + 17, (40 << 20) + 4095, (64 << 20) - 1):
            out.seek(place)
            out.write(b"!")
    base, delta = tmp_path / "base.qcow2", tmp_path / "delta.qcow2"
    write_qcow2(base, old, None, None, 16)
    write_qcow2(delta, new, old, str(base), bits)
    for image in (base, delta):
        subprocess.run(["qemu-img", "check", "-q", str(image)], check=True)
    subprocess.run(["qemu-img", "compare", "-q", str(delta), str(new)], check=True)
    assert delta.stat().st_size < 20 << bits


FILES = st.builds(tree.file, st.binary(max_size=50), st.sampled_from([0o644, 0o755, 0o600]))
NODES = FILES | st.builds(tree.symlink, st.text("abc/", min_size=1, max_size=9))
TREES = st.dictionaries(st.from_regex(r"[a-z]{1,4}(/[a-z]{1,4}){0,2}", fullmatch=True), NODES, max_size=6).filter(
    lambda files: not any(other.startswith(f"{path}/") for path in files for other in files)
)


@given(TREES)
def test_a_tree_round_trips_through_tar(files: dict[str, tree.Node]) -> None:
    """Reading what was written gives the same tree, and writing twice gives the same bytes."""
    whole = tree.with_parents(files)
    archive = tree.write_tar(whole, 1)
    assert tree.read_tar(io.BytesIO(archive)) == whole
    assert tree.write_tar(whole, 1) == archive


@given(TREES, TREES)
def test_differences_of_two_trees(old: dict[str, tree.Node], new: dict[str, tree.Node]) -> None:
    """Removing what was removed and overlaying what changed gives the new tree."""
    before, after = tree.with_parents(old), tree.with_parents(new)
    changed, removed = tree.differences(before, after)
    assert {path: node for path, node in before.items() if path not in removed} | changed == after


@given(TREES, TREES)
def test_a_script_never_makes_a_directory_that_exists(old: dict[str, tree.Node], new: dict[str, tree.Node]) -> None:
    """debugfs's mkdir on an existing directory corrupts the image; the script must not contain one."""
    existing = tree.with_parents(old)
    wanted = tree.with_parents(new, existing)
    present = {path for path, node in existing.items() if node.kind == "directory"}
    folder = ""
    for line in script(wanted, [], existing, 0, "/blobs").splitlines():
        word, _, name = line.partition(" ")
        name = name.strip('"')
        if word == "cd":
            folder = name.strip("/")
        elif word in ("rm", "rmdir"):
            present.discard(name.strip("/"))
        elif word == "mkdir":
            path = f"{folder}/{name}".lstrip("/")
            assert path not in present
            present.add(path)


def test_paths_follow_symlinked_directories() -> None:
    """On a merged /usr, bin/x is written to the target of bin."""
    lower = {"bin": tree.symlink("usr/bin"), "usr": tree.directory(), "usr/bin": tree.directory()}
    assert list(tree.resolved({"bin/x": tree.file("")}, lower)) == ["usr/bin/x"]


@given(TREES)
@settings(max_examples=20)
def test_cpio_lists_what_was_written(files: dict[str, tree.Node]) -> None:
    """cpio itself lists every file in the archive."""
    if not shutil.which("cpio"):
        pytest.skip("bin/setup-vm installs cpio")
    whole = tree.with_parents(files)
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=write_cpio(whole), capture_output=True, check=True)
    assert listed.stdout.decode().split() == sorted(whole)


def test_modules_load_after_their_dependencies() -> None:
    """Dependencies come first, each once; modules missing from the kernel are left out."""

    def module(needs: str) -> bytes:
        return b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"

    modules = {"ext4": module("jbd2,mbcache"), "jbd2": module("crc-x"), "mbcache": module(""), "crc_x": module("")}
    assert dependencies(modules["jbd2"]) == ["crc_x"]
    assert load_order(modules, ["ext4", "jbd2", "absent"]) == ["crc_x", "jbd2", "mbcache", "ext4"]


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="bin/setup-vm installs openssh-client")
def test_dropbear_gets_the_same_key_as_openssh(tmp_path: Path) -> None:
    """The converted host key holds the public key that ssh-keygen printed."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    import base64

    public = base64.b64decode(key.with_suffix(".pub").read_text().split()[1])[-32:]
    assert private_bytes(key.read_text())[32:] == public
    converted = dropbear_host_key(key.read_text())
    assert converted.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x40")
    assert len(converted) == 4 + 11 + 4 + 64
    assert converted.endswith(public)
