"""A foreign image as a base: its checksum verified, its disk packed like ours, its contents inspected once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tawara.vm import tree
from tawara.vm.base_image import CLUSTER_BITS, Base, Report, digest_of, kept_folder
from tawara.vm.disk import write_qcow2
from tawara.vm.errors import BuildError
from tawara.vm.foreign.appliance import appliance, guestfish
from tawara.vm.guest_json import read_value
from tawara.vm.run import run
from tawara.vm.spec import ForeignImage, Root

NAME = "image"
"""What a foreign base is called in its package's name, before the digest."""
DISK = "disk.qcow2"

_LIST = r"""find /sysroot -xdev -printf '%y\t%m\t%P\t%l\n' >/sysroot/.tawara-index
"""
_KINDS: dict[str, tree.Kind] = {
    "d": "directory",
    "f": "file",
    "l": "symlink",
    "c": "char",
    "b": "block",
    "p": "fifo",
}


@dataclass(frozen=True)
class ImageContents:
    """The contents of an image."""

    root: Root
    mounts: tuple[str, ...]
    """Tree paths at which other file systems of the image are mounted."""
    index: Mapping[str, tree.Node]
    """Every path of the root file system, without contents."""
    etc: Mapping[str, tree.Node]
    """/etc whole, by tree path (`etc/hostname`)."""


def build_base(image: ForeignImage, cache: Path, report: Report) -> Base:
    """Return the image as a base, from the cache or converted. Raises BuildError if its checksum is wrong."""
    path = Path(image.path)
    _verify(path, image.sha256, report)
    folder = kept_folder(cache, f"foreign/{image.sha256[:32]}", lambda draft: _convert(path, draft, report))
    return Base(folder, NAME, json.loads((folder / "base.json").read_text())["digest"], "")


def disk_size(base: Base) -> int:
    """Bytes of the image's disk."""
    return base.raw.stat().st_size


def inspect_image(base: Base, cache: Path, report: Report, mirror: str = "") -> ImageContents:
    """Return what libguestfs finds in the image; inspected once and kept with the base."""
    folder = base.folder / "inside"
    if not (folder / "facts.json").exists():
        kernel = appliance(cache, report, mirror)
        report("looking into the image")
        _inspect(base, kernel, folder)
    facts = json.loads((folder / "facts.json").read_text())
    with (folder / "etc.tar").open("rb") as stream:
        etc = {f"etc/{path}": node for path, node in tree.read_tar(stream).items()}
    root = read_value(Root, facts["root"])
    return ImageContents(
        root, tuple(facts["mounts"]), read_index((folder / "index").read_text(errors="surrogateescape")), etc
    )


def read_index(text: str) -> dict[str, tree.Node]:
    """Parse the index from find's lines: kind, mode, path, target."""
    found = {}
    for line in text.splitlines():
        kind, mode, path, target = (*line.split("\t"), "", "", "", "")[:4]
        if path and kind in _KINDS and path != ".tawara-index":
            found[path] = tree.Node(_KINDS[kind], int(mode, 8), content=target.encode(errors="surrogateescape"))
    return found


def read_facts(said: str) -> tuple[Root, list[str]]:
    """Parse the root file system and the other mount points from guestfish's output between our marks."""
    roots, mounts, kinds, parts = (part.strip() for part in re.split(r"^--\w*$", said, flags=re.M)[1:5])
    root = roots.splitlines()[0]
    places = dict(line.split(": ", 1) for line in mounts.splitlines())
    kind = dict(line.split(": ", 1) for line in kinds.splitlines()).get(root, "")
    starts = {
        match[1]: int(match[2]) for match in re.finditer(r"part_num: (\d+)\s+part_start: (\d+)", parts, flags=re.M)
    }
    number = root.removeprefix("/dev/sda")
    offset = 0 if root == "/dev/sda" else starts.get(number) if number.isdigit() else None
    return Root(root, kind, offset), sorted(place.strip("/") for place in places.values() if place != "/")


def _verify(path: Path, sha256: str, report: Report) -> None:
    report(f"{path.name}: verifying its checksum")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise BuildError(
            f"{path}: its sha256 is {found}, not {sha256}",
            hint=f'If this is the file that you mean, write image_sha256 = "{found}".',
        )


def _convert(path: Path, folder: Path, report: Report) -> None:
    report(f"{path.name}: converting")
    facts = json.loads(run(["qemu-img", "info", "--output=json", str(path)]).stdout)
    if "backing-filename" in facts:
        raise BuildError(
            f"{path} stands on another image, {facts['backing-filename']}, which its checksum does not cover",
            hint=f"qemu-img convert -O qcow2 {path} whole.qcow2 makes one image of both.",
        )
    raw = folder / "root.raw"
    run(["qemu-img", "convert", "-f", facts["format"], "-O", "raw", str(path), str(raw)])
    write_qcow2(folder / DISK, raw, None, None, CLUSTER_BITS)
    (folder / "base.json").write_text(json.dumps({"digest": digest_of([folder / DISK])}))


def _inspect(base: Base, kernel: Path, folder: Path) -> None:
    """Run one session of libguestfs, on a temporary overlay, in which a dirty journal is replayed."""
    with tempfile.TemporaryDirectory(prefix="looking-", dir=base.folder) as name:
        draft = Path(name)
        overlay, script, index, etc = (draft / part for part in ("overlay", "script", "index", "etc.tar"))
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base.raw), str(overlay)])
        script.write_text(_LIST)
        commands = ["echo --roots", "inspect-get-roots", "echo --mounts", "mountpoints"]
        commands += ["echo --kinds", "list-filesystems", "echo --parts", "-part-list /dev/sda", "echo --end"]
        commands += [f"upload {script} /.tawara-list", 'debug sh "sh /sysroot/.tawara-list"']
        commands += [f"download /.tawara-index {index}", f"tar-out /etc {etc}"]
        root, mounts = read_facts(guestfish(kernel, overlay, "qcow2", commands))
        facts = {"root": dataclasses.asdict(root), "mounts": mounts}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in (index, etc):
            path.rename(folder / path.name)
        (folder / "facts.json").write_text(json.dumps(facts))
