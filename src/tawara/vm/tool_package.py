"""The package `tawara-vm`: the command for hosts with its libraries, run by the system's Python."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import tawara
from tawara.vm.package_manifest import Package, Packaged, host_version

PROGRAM = "/usr/bin/tawara"
SITE = "/usr/lib/tawara-vm/site"
_DOC = "/usr/share/doc/tawara-vm"
_OURS = (
    "__init__.py",
    "__main__.py",
    "model",
    "vm",
    "cli/__init__.py",
    "cli/streams.py",
    "cli/vm.py",
    "cli/vm_definitions.py",
    "cli/vm_host.py",
    "cli/vm_moving.py",
    "cli/vm_snapshots.py",
)
"""What the command needs of the package `tawara`; the store's half is not there."""
_LIBRARIES = ("attrs", "cyclopts", "docstring-parser", "rich", "typing-extensions")
"""Distributions without compiled parts, so that any Python from 3.11 runs them."""
LAUNCHER = f"""\
#!/usr/bin/python3 -I
# Run the command with the libraries of its package, whatever else is installed.
import sys

sys.path.insert(0, "{SITE}")
from tawara.cli import main

sys.exit(main())
"""


def tool_files() -> dict[str, Path]:
    """Return every file of the package except the program: its path on the host, and the file here."""
    own = Path(tawara.__file__).parent
    found: dict[str, Path] = {}
    for name in _OURS:
        paths = [own / name] if name.endswith(".py") else sorted((own / name).rglob("*"))
        found |= {f"{SITE}/tawara/{path.relative_to(own)}": path for path in paths if _is_wanted(path)}
    for library in _LIBRARIES:
        for file in metadata.files(library) or []:
            path = Path(str(file.locate()))
            if file.parts[0].endswith(".dist-info"):
                if file.name.upper().startswith(("LICENSE", "COPYING")):
                    found[f"{_DOC}/{library}/{file.name}"] = path
            elif file.parts[0] != ".." and _is_wanted(path):
                found[f"{SITE}/{file}"] = path
    return dict(sorted(found.items()))


def _is_wanted(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyi", ".pyc")


def digest_of_tool(files: dict[str, Path]) -> str:
    """Return a digest of names and contents."""
    whole = hashlib.sha256(LAUNCHER.encode())
    for name, source in files.items():
        content = source.read_bytes()
        whole.update(f"{name} {len(content)}\n".encode() + content)
    return whole.hexdigest()[:16]


def tool_package(files: dict[str, Path], launcher: Path) -> Package:
    """Return the package; `launcher` is the path of the program."""
    compiled = f"find {SITE} -name __pycache__ -prune -exec rm -rf {{}} +\n"
    return Package(
        name="tawara-vm",
        version=host_version(tawara.__version__),
        summary="The command `tawara vm` for hosts of packaged machines",
        arch="all",
        files=(
            Packaged(str(launcher), PROGRAM, 0o755),
            *(Packaged(str(source), name, _mode(name)) for name, source in files.items()),
        ),
        deb_depends=("python3 (>= 3.11)", "openssh-client"),
        rpm_recommends=("python3 >= 3.11", "openssh-clients"),
        # Without compiled modules each call would take a second longer.
        scripts={
            "deb:postinstall": f"python3 -m compileall -q {SITE} || true\n",
            "rpm:postinstall": f"python3 -m compileall -q {SITE} || true\n",
            "deb:preremove": compiled,
            "rpm:preremove": compiled,
        },
    )


def _mode(name: str) -> int:
    return 0o755 if name.endswith("/host_files/reconcile") else 0o644
