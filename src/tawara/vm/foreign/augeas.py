"""Changes an image's configuration files with Augeas, on copies: augtool needs neither the image mounted nor root."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tawara.vm import tree
from tawara.vm.errors import BuildError
from tawara.vm.run import run


def edited(etc: Mapping[str, tree.Node], commands: Sequence[str]) -> dict[str, tree.Node]:
    """Return the files below etc/ that augtool's commands change or create. Raises BuildError with Augeas's error."""
    with tempfile.TemporaryDirectory(prefix="tawara-augeas-") as name:
        top = Path(name)
        for path, node in etc.items():
            if node.kind == "file":
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_bytes(node.content)
        script = top / "script"
        # The last line is an error of its own where saving failed: augtool's exit code covers both.
        script.write_text("".join(f"{command}\n" for command in commands) + "save\n")
        words = ["augtool", "--root", str(top), "--file", str(script)]
        done = run([*words], check=False)
        if done.returncode or "error:" in done.stdout + done.stderr:
            why = run(["augtool", "--root", str(top), "print", "/augeas//error"], check=False).stdout
            said = "\n  ".join((done.stdout + done.stderr + why).strip().splitlines()[:12])
            raise BuildError(
                f"Augeas refused to edit the image:\n  {said}",
                hint="`augtool` shows the paths that Augeas knows: ls /files/etc",
            )
        script.unlink()
        found = {}
        for file in sorted(top.rglob("*")):
            path = str(file.relative_to(top))
            if file.is_file() and (path not in etc or etc[path].content != file.read_bytes()):
                found[path] = replace(etc.get(path, tree.file("")), content=file.read_bytes())
        return found
