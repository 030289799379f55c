"""The commands of ours by which a store is looked at, with each of their outcomes, as transcripts.

They are named `tawara_…`, so that a tracker of MogileFS answers that it does not know them instead of doing something.
"""

from __future__ import annotations

TRANSCRIPTS = {
    "tawara_explain: what has to be given": """
> tawara_explain key=k
< ERR no_domain *
> tawara_explain domain=x&key=k
< ERR unreg_domain *
> tawara_explain domain=d
< ERR no_key no_key
""",
    "tawara_explain: a file, an upload, what was deleted, and nothing": """
! STORE k
> tawara_explain domain=d&key=k
< OK fid=1&verdict=wanting&sentences=5&*dev1+on+one:+there,+with+the+right+size*
> tawara_explain fid=1&noverify=1
< OK fid=1&verdict=wanting&*fid+1+is+fid+1*as+far+as+the+database+knows*waits+for+a+worker*
> create_open domain=d&key=later
< OK fid=2&*
> tawara_explain domain=d&key=later
< OK fid=2&verdict=open&sentences=2&*being+uploaded*nothing+there+yet*
> delete domain=d&key=k
< OK
> tawara_explain domain=d&key=k
< OK fid=1&verdict=deleted&*bytes+are+still+there*Its+bytes+are+to+be+deleted*
> tawara_explain domain=d&key=never
< OK fid=&verdict=unknown&sentences=1&*
> tawara_explain fid=4711
< OK fid=4711&verdict=unknown&sentences=1&*
""",
}
