"""Tawara's own commands for observing a store, with each of their outcomes, as transcripts. They are named `tawara_…`,
so that a tracker of MogileFS answers that they are unknown instead of doing something else."""

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
    "tawara_status: files, queues and work": """
! STORE a b
> tawara_status
< OK now=*&counted_at=*&files=2&bytes=10&lost_files=0&lost_bytes=0&unreadable_files=0&unreadable_bytes=0\
&one_device_files=2&one_device_bytes=10&one_device_wanted_files=0&*&one_host_files=2&*&unsatisfied_files=2\
&unsatisfied_bytes=10&by_device=1:2&by_disk=1:2&by_host=1:2&queues=8&queue1_name=replicate&queue1_due=2&queue1_later=0\
&queue1_stuck=0&queue1_since=*&*&processes=0&works=0&certificates=0
! FILE_ON 1 2
> tawara_status recount=1
< OK *&one_device_files=1&*
""",
    "tawara_placement: files by the set of their devices": """
> tawara_placement
< OK counted_at=*&all_groups=0&groups=0
""",
    "tawara_placement: what there is, and what is behind": """
! STORE a b c
! FILE_ON 2 2
> tawara_placement recount=1
< OK counted_at=*&all_groups=2&groups=2&group1_domain=d&group1_class=default&group1_devids=1&group1_files=2\
&group1_bytes=10&group2_domain=d&group2_class=default&group2_devids=1,2&group2_files=1&group2_bytes=5
> tawara_placement after=1
< OK counted_at=*&all_groups=2&groups=1&group1_domain=d&group1_class=default&group1_devids=1,2&*
""",
    "tawara_removal: what is refused, and what would be done": """
> tawara_removal
< ERR bad_params *
> tawara_removal what=everything
< ERR bad_params *
> tawara_removal what=domain
< ERR no_domain *
> tawara_removal what=domain&domain=x
< ERR domain_not_found *
> tawara_removal what=domain&domain=d
< OK refusal=domain_has_classes&sentences=1&sentence1=Domain+d+has+classes+of+its+own:+md5*
> tawara_removal what=class&domain=d
< ERR no_class *
> tawara_removal what=class&domain=d&class=x
< ERR class_not_found *
> tawara_removal what=class&domain=d&class=md5
< OK refusal=&sentences=1&sentence1=Class+md5+of+d*would+be+removed
> tawara_removal what=host
< ERR no_host *
> tawara_removal what=host&host=x
< ERR unknown_host *
> tawara_removal what=host&host=one
< OK refusal=host_not_empty&*
> tawara_removal what=device&devid=9
< ERR no_device *
> tawara_removal what=device&devid=1
< OK refusal=device_in_use&*
> tawara_removal what=setting&key=schema_version
< ERR not_writable *
> tawara_removal what=setting&key=skip_mkcol
< OK refusal=&sentences=1&*nothing+would+be+removed
> get_domains
< OK domains=1&domain1=d&domain1classes=2&*
""",
    "tawara_delete_device: only what is dead and empty": """
! FILE_ON 7 2
> tawara_delete_device devid=9
< ERR no_device *
> tawara_delete_device devid=2
< ERR device_in_use dev2+on+one+is+readonly*
> set_state host=one&device=2&state=dead
< OK
> tawara_delete_device devid=2
< ERR device_in_use *not+replaced+yet
! NOT_ON 7 2
> tawara_delete_device devid=2
< OK
> get_devices
< OK devices=1&dev1_devid=1&*
""",
    "tawara_remove_setting": """
> tawara_remove_setting
< ERR bad_params *
> tawara_remove_setting key=schema_version
< ERR not_writable *
> set_server_setting key=skip_mkcol&value=1
< OK
> tawara_removal what=setting&key=skip_mkcol
< OK refusal=&*now+%271%27*
> tawara_remove_setting key=skip_mkcol
< OK
> server_setting key=skip_mkcol
< OK key=skip_mkcol&value=
""",
}
