"""The commands for stored files, with each outcome, as transcripts (docs/mogilefs.md 3); see test_tracker_commands."""

from __future__ import annotations

from tests.acceptance.tracker_upload_commands import CLOSE, NO_DOMAIN, OPENED, P1, STORED, UNREG_DOMAIN

UNKNOWN_KEY = "< ERR unknown_key unknown_key"

TRANSCRIPTS = {
    # --- get_paths ----------------------------------------------------------------------------------------------------
    "get_paths: what has to be given": f"""
> get_paths key=k
{NO_DOMAIN}
> get_paths domain=x&key=k
{UNREG_DOMAIN}
> get_paths domain=d
< ERR no_key no_key
> get_paths domain=d&key=
< ERR no_key no_key
> get_paths domain=d&key=k
{UNKNOWN_KEY}
""",
    "get_paths: a file": f"""
{STORED}
> get_paths domain=d&key=k
< OK paths=1&path1={P1}
> get_paths domain=d&key=k&noverify=1&pathcount=5&zone=alt
< OK paths=1&path1={P1}
""",
    "get_paths: a replica that is gone, seen only when looked for": f"""
{STORED}
$ DELETE /dev1/0/000/000/0000000001.fid
> get_paths domain=d&key=k
< OK paths=0
> get_paths domain=d&key=k&noverify=1
< OK paths=1&path1={P1}
""",
    "get_paths: a replica of another length": f"""
{STORED}
$ DELETE /dev1/0/000/000/0000000001.fid
$ PUT /dev1/0/000/000/0000000001.fid truncat
> get_paths domain=d&key=k
< OK paths=0
""",
    "get_paths: as many as are asked for, at least two": f"""
{STORED}
! FILE_ON 1 2
> get_paths domain=d&key=k&noverify=1&pathcount=1
< OK paths=2&*
""",
    "get_paths: draining devices come last": f"""
{STORED}
! FILE_ON 1 2
> set_state host=one&device=1&state=drain
< OK
> get_paths domain=d&key=k&noverify=1
< OK paths=2&path1=http://NODE/dev2/0/000/000/0000000001.fid&path2={P1}
> get_paths domain=d&key=k
< OK paths=1&path1={P1}
""",
    "get_paths: when nothing can be read, the last resort": f"""
{STORED}
> set_state host=one&device=1&state=down
< OK
> get_paths domain=d&key=k
< OK paths=1&path1={P1}
""",
    "get_paths: the port and the address for reading": f"""
{STORED}
> update_host host=one&getport=81&altip=127.0.0.2&altmask=10.0.0.0/8
< OK hostid=1&hostname=one
> get_paths domain=d&key=k&noverify=1
< OK paths=1&path1=http://127.0.0.1:81/dev1/0/000/000/0000000001.fid
> get_paths domain=d&key=k&noverify=1&zone=alt
< OK paths=1&path1=http://127.0.0.2:81/dev1/0/000/000/0000000001.fid
""",
    # --- file_info, file_debug ----------------------------------------------------------------------------------------
    "file_info: what has to be given": f"""
> file_info key=k
{NO_DOMAIN}
> file_info domain=x&key=k
{UNREG_DOMAIN}
> file_info domain=d
< ERR no_key no_key
> file_info domain=d&key=k
{UNKNOWN_KEY}
""",
    "file_info: a checksum that is not known": f"""
{STORED}
> updateclass domain=d&key=k&class=md5
< OK
> file_info domain=d&key=k
< OK fid=1&domain=d&class=md5&key=k&length=5&devcount=1&checksum=MISSING
""",
    "file_debug: by key, and by fid": f"""
> file_debug domain=d
< ERR no_key no_key
> file_debug key=k
{NO_DOMAIN}
> file_debug domain=x&key=k
{UNREG_DOMAIN}
> file_debug domain=d&key=k
{UNKNOWN_KEY}
> file_debug fid=99
< OK checksum=NONE
{OPENED}
> file_debug fid=1
< OK checksum=NONE&tempfile_classid=0&tempfile_dmid=1&tempfile_dkey=k&tempfile_devids=1
> {CLOSE}
< OK
> file_debug domain=d&key=k
< OK checksum=NONE&devids=1&devpath_1={P1}&fid_fid=1&fid_dmid=1&fid_dkey=k&fid_length=5&fid_classid=0&fid_devcount=1\
&replqueue_fid=1&replqueue_nexttry=0&replqueue_fromdevid=&replqueue_failcount=0&replqueue_flags=0\
&fid_domain=d&fid_class=default
""",
    # --- delete, rename, updateclass ----------------------------------------------------------------------------------
    "delete: a file, once": f"""
> delete key=k
{NO_DOMAIN}
> delete domain=x&key=k
{UNREG_DOMAIN}
> delete domain=d
< ERR no_key no_key
{STORED}
> delete domain=d&key=k
< OK
> delete domain=d&key=k
{UNKNOWN_KEY}
> get_paths domain=d&key=k
{UNKNOWN_KEY}
> file_debug fid=1
< OK checksum=NONE&devids=1&devpath_1={P1}&replqueue_fid=1&*
""",
    "rename: a file, never onto another": f"""
> rename from_key=k&to_key=l
{NO_DOMAIN}
> rename domain=x&from_key=k&to_key=l
{UNREG_DOMAIN}
> rename domain=d&from_key=k
< ERR no_key no_key
> rename domain=d&to_key=k
< ERR no_key no_key
> rename domain=d&from_key=k&to_key=l
{UNKNOWN_KEY}
{STORED}
> rename domain=d&from_key=k&to_key=k
< ERR key_exists Target+key+name+already+exists%3B+can%27t+overwrite.
> rename domain=d&from_key=k&to_key={"l" * 1025}
< ERR invalid_key A+key+has+at+most+1024+bytes
> rename domain=d&from_key=k&to_key=l
< OK
> get_paths domain=d&key=k
{UNKNOWN_KEY}
> get_paths domain=d&key=l
< OK paths=1&path1={P1}
""",
    "updateclass: to another, the same, the default": f"""
> updateclass key=k&class=md5
{NO_DOMAIN}
> updateclass domain=x&key=k&class=md5
{UNREG_DOMAIN}
> updateclass domain=d&class=md5
< ERR no_key no_key
> updateclass domain=d&key=k
< ERR no_class No+class+provided
> updateclass domain=d&key=k&class=nope
< ERR class_not_found Class+not+found
> updateclass domain=d&key=k&class=md5
< ERR invalid_key invalid_key
{STORED}
> updateclass domain=d&key=k&class=md5
< OK
> updateclass domain=d&key=k&class=md5
< OK
> file_info domain=d&key=k
< OK fid=1&domain=d&class=md5&*
> updateclass domain=d&key=k&class=default
< OK
> file_info domain=d&key=k
< OK fid=1&domain=d&class=default&*
""",
    "updateclass: a file without any replica": f"""
{STORED}
! NOT_ON 1 1
> updateclass domain=d&key=k&class=md5
< ERR no_devices No+devices+found+to+store+file
""",
    # --- list_keys, list_fids -----------------------------------------------------------------------------------------
    "list_keys: prefix, after, limit": """
> list_keys prefix=k
< ERR no_domain No+domain+provided
> list_keys domain=x
< ERR unreg_domain Domain+name+invalid/not+found
> list_keys domain=d
< ERR none_match No+keys+match+that+pattern+and+after-value+%28if+any%29.
! STORE a/1 a/2 b(1 b(2 B_ b%25
> list_keys domain=d
< OK key_count=6&next_after=b%282&key_1=B_&key_2=a/1&key_3=a/2&key_4=b%25&key_5=b%281&key_6=b%282
> list_keys domain=d&prefix=a/
< OK key_count=2&next_after=a/2&key_1=a/1&key_2=a/2
> list_keys domain=d&prefix=a/&limit=1
< OK key_count=1&next_after=a/1&key_1=a/1
> list_keys domain=d&prefix=a/&after=a/1
< OK key_count=1&next_after=a/2&key_1=a/2
> list_keys domain=d&prefix=a/&after=a/2
< ERR none_match No+keys+match+that+pattern+and+after-value+%28if+any%29.
> list_keys domain=d&prefix=a/&after=b
< ERR after_mismatch Pattern+does+not+match+the+after-value%3F
> list_keys domain=d&prefix=b(&after=b(1
< OK key_count=1&next_after=b%282&key_1=b%282
> list_keys domain=d&prefix=.
< ERR none_match *
> list_keys domain=d&prefix=_
< ERR none_match *
> list_keys domain=d&prefix=b%25
< OK key_count=1&next_after=b%25&key_1=b%25
> list_keys domain=d&prefix=B
< OK key_count=1&next_after=B_&key_1=B_
> list_keys domain=d&limit=-3
< OK key_count=1&next_after=B_&key_1=B_
> list_keys domain=d&limit=99999
< OK key_count=6&*
> list_keys domain=d&after=b
< OK key_count=3&next_after=b%282&*
""",
    "list_fids: from is exclusive, to is a count": """
> list_fids
< OK fid_count=0
! STORE one two three
> list_fids from=0&to=2
< OK fid_count=2&fid_1_fid=1&fid_1_domain=d&fid_1_class=default&fid_1_key=one&fid_1_length=5&fid_1_devcount=1\
&fid_2_fid=2&fid_2_domain=d&fid_2_class=default&fid_2_key=two&fid_2_length=5&fid_2_devcount=1
> list_fids from=2
< OK fid_count=1&fid_1_fid=3&*
> list_fids from=3
< OK fid_count=0
> list_fids from=99999999999999999999999
< OK fid_count=0
""",
    # --- others -------------------------------------------------------------------------------------------------------
    "noop": """
> noop
< OK
> NOOP whatever
< OK
> noop callid=a%20b
< OK callid=a+b
""",
    "sleep": """
> sleep duration=1
< OK
""",
    "test: and its crash": """
> test
< OK
> test crash=1
< ERR failure Operation+failed
""",
    "clear_cache": """
> clear_cache
< OK
> clear_cache all=1
< OK
""",
    "do_monitor_round": """
> do_monitor_round
< OK
""",
    "replicate_now: makes due what was put off": f"""
{STORED}
> replicate_now
< OK count=0
! POSTPONE 1
> replicate_now
< OK count=1
""",
    "unknown commands": """
> get_stats
< ERR unknown_command Unknown+server+command
> edit_file domain=d&key=k
< ERR unknown_command Unknown+server+command
> httpcopy
< ERR unknown_command Unknown+server+command
> nope callid=9
< ERR unknown_command Unknown+server+command 9
> ! version
< ERR unknown_command Unknown+server+command
> %%%
< ERR unknown_command Unknown+server+command
""",
}
