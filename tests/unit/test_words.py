"""The wording of code and docs: standard terms of the field, no private metaphors, no archaic English."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INSTEAD = {
    r"door|door-keeper": "listener, server, handler",
    r"house|furnish\w*": "code base, fixture, set up",
    r"bells?|rung": "wakeup, notify",
    r"errands?": "task",
    r"lanes?": "thread pool, batcher",
    r"journeys?|sets? out beside|company": "batch, flush",
    r"party|parties": "batch",
    r"scribe": "journal writer",
    r"charter": "cluster manifest",
    r"census": "placement counts",
    r"hasten\w*": "reschedule, retry",
    r"whoever|whomever|nobody(?! user)|somebody": "the component: the worker, the client, no process",
    r"a person|persons|people": "an operator, a user",
    r"lest|nought|anew|mended|mends?|of late|as it were|such a one": "plain English",
    r"for (?:the|its|their|whose) sake|sake": "because of",
    r"what (?:became|becomes|has become) of": "the result of, the status of",
    r"(?:stands?|standing) in the way|in the way": "blocks, conflicts with",
    r"(?:is|are) told|tells of": "is notified, is reported",
    r"is there such|there is such": "exists",
    r"out of room|no room|room for|room left": "space",
    r"strays?": "orphan",
    r"announcements?": "reservation",
    r"by hand is": "manual",
}
"""Pattern -> what to write instead."""

BANNED = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in INSTEAD), re.IGNORECASE)
EXEMPT = {"docs/mogilefs.md", "tests/unit/test_words.py", "src/tawara/model/mogilefsd_conf.py"}
"""Pages that describe another program in its own words, and this one."""

UNREVISED = {
    "docs/client.md",
    "docs/recovery.md",
    "docs/vm.md",
    "src/tawara/background.py",
    "src/tawara/cli/drill.py",
    "src/tawara/cli/rebuild.py",
    "src/tawara/cli/scrubbed.py",
    "src/tawara/cli/vm.py",
    "src/tawara/client/administration.py",
    "src/tawara/client/asynchronous.py",
    "src/tawara/client/maintenance_replies.py",
    "src/tawara/client/replies.py",
    "src/tawara/client/snapshot.py",
    "src/tawara/client/status.py",
    "src/tawara/client/synchronous.py",
    "src/tawara/client/upload.py",
    "src/tawara/disks/devices.py",
    "src/tawara/disks/incoming.py",
    "src/tawara/disks/load_meter.py",
    "src/tawara/disks/mounts.py",
    "src/tawara/disks/paths.py",
    "src/tawara/disks/sending.py",
    "src/tawara/disks/small_files.py",
    "src/tawara/gateway/__init__.py",
    "src/tawara/gateway/nginx.py",
    "src/tawara/gateway/nginx_configuration.py",
    "src/tawara/gateway/server.py",
    "src/tawara/gateway/spool.py",
    "src/tawara/listening.py",
    "src/tawara/metadata/adoption.py",
    "src/tawara/metadata/backlog.py",
    "src/tawara/metadata/backup.py",
    "src/tawara/metadata/clock.py",
    "src/tawara/metadata/cluster.py",
    "src/tawara/metadata/counting.py",
    "src/tawara/metadata/deferrals.py",
    "src/tawara/metadata/device_liveness.py",
    "src/tawara/metadata/diagnosis.py",
    "src/tawara/metadata/drain.py",
    "src/tawara/metadata/error_codes.py",
    "src/tawara/metadata/fid_counter.py",
    "src/tawara/metadata/fid_locks.py",
    "src/tawara/metadata/files.py",
    "src/tawara/metadata/fsck.py",
    "src/tawara/metadata/journals.py",
    "src/tawara/metadata/leases.py",
    "src/tawara/metadata/mysql.py",
    "src/tawara/metadata/pace.py",
    "src/tawara/metadata/placement_counts.py",
    "src/tawara/metadata/pool.py",
    "src/tawara/metadata/postgres.py",
    "src/tawara/metadata/queues.py",
    "src/tawara/metadata/rebalance.py",
    "src/tawara/metadata/rebuilding.py",
    "src/tawara/metadata/replicas.py",
    "src/tawara/metadata/runs.py",
    "src/tawara/metadata/schema.py",
    "src/tawara/metadata/scrub.py",
    "src/tawara/metadata/server.py",
    "src/tawara/metadata/sqlite.py",
    "src/tawara/metadata/traces.py",
    "src/tawara/metadata/uploads.py",
    "src/tawara/metadata/wakeups.py",
    "src/tawara/metadata/write_lock.py",
    "src/tawara/model/amounts.py",
    "src/tawara/model/backlog.py",
    "src/tawara/model/cluster.py",
    "src/tawara/model/explanation.py",
    "src/tawara/model/files.py",
    "src/tawara/model/fsck.py",
    "src/tawara/model/limits.py",
    "src/tawara/model/liveness.py",
    "src/tawara/model/manifest.py",
    "src/tawara/model/observation.py",
    "src/tawara/model/pace.py",
    "src/tawara/model/placement_groups.py",
    "src/tawara/model/policy/union.py",
    "src/tawara/model/rebalance.py",
    "src/tawara/model/recovery.py",
    "src/tawara/model/removal.py",
    "src/tawara/model/safety.py",
    "src/tawara/model/settings.py",
    "src/tawara/model/simulation.py",
    "src/tawara/model/spans.py",
    "src/tawara/node/server.py",
    "src/tawara/node/side_channel.py",
    "src/tawara/nodes/client.py",
    "src/tawara/nodes/journals.py",
    "src/tawara/nodes/replicas.py",
    "src/tawara/recovery/device_sources.py",
    "src/tawara/recovery/spool.py",
    "src/tawara/store/local_devices.py",
    "src/tawara/store/streaming.py",
    "src/tawara/tracker/connection.py",
    "src/tawara/tracker/device_liveness.py",
    "src/tawara/tracker/explanation.py",
    "src/tawara/tracker/fsck.py",
    "src/tawara/tracker/removal.py",
    "src/tawara/vm/base_image.py",
    "src/tawara/vm/bases/tiny.py",
    "src/tawara/vm/cluster.py",
    "src/tawara/vm/errors.py",
    "src/tawara/vm/ext4.py",
    "src/tawara/vm/foreign/__init__.py",
    "src/tawara/vm/foreign/augeas.py",
    "src/tawara/vm/guest_json.py",
    "src/tawara/vm/run.py",
    "src/tawara/vm/spec.py",
    "src/tawara/vm/spec_fields.py",
    "src/tawara/vm/template.py",
    "src/tawara/vm/toml_lines.py",
    "src/tawara/wire/journal.py",
    "src/tawara/wire/line.py",
    "src/tawara/wire/listing.py",
    "src/tawara/wire/small_answer.py",
    "src/tawara/workers/journal_writer.py",
    "src/tawara/workers/move_files.py",
    "src/tawara/workers/replicate_files.py",
}
"""Files that still have such words: take a file out when it is reworded, add none."""


def pages() -> list[Path]:
    """The Python files of src and the pages of docs that are to be free of such words."""
    found = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return sorted(path for path in found if str(path.relative_to(ROOT)) not in EXEMPT | UNREVISED)


def instead(word: str) -> str:
    """What to write instead of `word`."""
    return next(better for pattern, better in INSTEAD.items() if re.fullmatch(pattern, word, re.IGNORECASE))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_words_are_the_fields(page: Path) -> None:
    """No page uses a private metaphor or an archaic word where the field has a term."""
    found = [
        f"{page.relative_to(ROOT)}:{number}: {match[0]!r} -> {instead(match[0])}"
        for number, line in enumerate(page.read_text().splitlines(), 1)
        for match in BANNED.finditer(line)
    ]
    assert found == []
