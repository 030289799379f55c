"""Tawara's own commands for unreachable devices with each of their outcomes, as transcripts."""

from __future__ import annotations

TRANSCRIPTS = {
    "tawara_absences": """
> tawara_absences
< OK absences=0&after=900&brake=
! ABSENT 1
> tawara_absences
< OK absences=1&absence1_devid=1&absence1_liveness=presumed+dead&absence1_seconds=901&absence1_since=77\
&absence1_to_queue=1&after=900&brake=
""",
    "tawara_accept": """
> tawara_accept
< ERR bad_params *
> tawara_accept device=99
< ERR no_device *
> tawara_accept device=1
< OK
""",
    "tawara_trust": """
> tawara_trust
< ERR bad_params *
> tawara_trust device=99
< ERR no_device *
> tawara_trust host=nowhere
< ERR unknown_host *
> tawara_trust device=1
< ERR device_not_absent *
! ABSENT 1
> tawara_trust device=1
< OK devids=1
> tawara_absences
< OK absences=1&absence1_devid=1&absence1_liveness=trusted&absence1_seconds=901&absence1_since=77\
&absence1_to_queue=0&after=900&brake=
> tawara_trust host=one
< OK devids=1
""",
}
