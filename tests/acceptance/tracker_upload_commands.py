"""Opening and closing uploads, with each outcome, as transcripts (docs/mogilefs.md 3); see test_tracker_commands."""

from __future__ import annotations

HELLO = "5d41402abc4b2a76b9719d911017c592"
HELLO_CRC64 = "3377857006524257"
HELLO_SHA1 = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
P1 = "http://NODE/dev1/0/000/000/0000000001.fid"
P2 = "http://NODE/dev1/0/000/000/0000000002.fid"
STORED = f"""
> create_open domain=d&key=k
< OK fid=1&devid=1&path={P1}
$ PUT /dev1/0/000/000/0000000001.fid hello
> create_close domain=d&fid=1&devid=1&path={P1}&key=k
< OK
"""
OPENED = f"""
> create_open domain=d&key=k
< OK fid=1&devid=1&path={P1}
$ PUT /dev1/0/000/000/0000000001.fid hello
"""
CLOSE = f"create_close domain=d&fid=1&devid=1&path={P1}&key=k"
NO_TEMP_FILE = "< ERR no_temp_file No+tempfile+or+file+already+closed"
NO_DOMAIN = "< ERR no_domain No+domain+provided"
UNREG_DOMAIN = "< ERR unreg_domain Domain+name+invalid/not+found"
QUEUED_FOR_DELETION = """
> file_debug fid=1
< OK checksum=NONE&devids=1&devpath_1=http://NODE/dev1/0/000/000/0000000001.fid*&delqueue_fid=1&*
"""

TRANSCRIPTS = {
    # --- create_open --------------------------------------------------------------------------------------------------
    "create_open: one destination": OPENED,
    "create_open: several destinations are numbered": f"""
> create_open domain=d&key=k&multi_dest=1&fid=0&class=
< OK fid=1&dev_count=1&devid_1=1&path_1={P1}
""",
    "create_open: two on one host, when there is no other": """
> set_state host=one&device=2&state=alive
< OK
! OBSERVE 2
> create_open domain=d&key=k&multi_dest=1
< OK fid=1&dev_count=2&*
""",
    "create_open: no domain": f"""
> create_open key=k
{NO_DOMAIN}
> create_open domain=&key=k
{NO_DOMAIN}
""",
    "create_open: unknown domain": f"""
> create_open domain=x&key=k
{UNREG_DOMAIN}
> create_open domain=%FF%FE&key=k
{UNREG_DOMAIN}
""",
    "create_open: a key is not needed": f"""
> create_open domain=d
< OK fid=1&devid=1&path={P1}
""",
    "create_open: a key that is too long": f"""
> create_open domain=d&key={"k" * 1025}
< ERR invalid_key A+key+has+at+most+1024+bytes
""",
    "create_open: classes by name, default among them": f"""
> create_open domain=d&key=k&class=md5
< OK fid=1&devid=1&path={P1}
> create_open domain=d&key=k&class=default
< OK fid=2&devid=1&path={P2}
> create_open domain=d&key=k&class=
< OK fid=3&*
""",
    "create_open: unknown class": """
> create_open domain=d&key=k&class=nope
< ERR unreg_class unreg_class
""",
    "create_open: a fid that is asked for": """
> create_open domain=d&key=k&fid=77
< OK fid=77&devid=1&path=http://NODE/dev1/0/000/000/0000000077.fid
> create_open domain=d&key=k&fid=77
< ERR fid_in_use fid_in_use
> create_open domain=d&key=k
< OK fid=78&*
""",
    "create_open: a fid out of range": """
> create_open domain=d&key=k&fid=99999999999999999999
< ERR bad_params The+fid+is+out+of+range
> create_open domain=d&key=k&fid=9223372036854775806
< ERR bad_params The+fid+is+out+of+range:+it+may+be+at+most+1000000+now
> create_open domain=d&key=k
< OK fid=1&*
> create_open domain=d&key=k&fid=-1
< ERR bad_params The+fid+is+out+of+range
""",
    "create_open: a size that fits, and one that does not": """
> create_open domain=d&key=k&size=1000
< OK fid=1&*
> create_open domain=d&key=k&size=99999999999
< ERR no_devices No+devices+found+to+store+file
""",
    "create_open: preferred devices, and a malformed list": """
> create_open domain=d&key=k&preferred=7,1
< OK fid=1&devid=1&*
> create_open domain=d&key=k&preferred=1,x
< ERR bad_params preferred+*
> create_open domain=d&key=k&preferred=,
< ERR bad_params preferred+*
> create_open domain=d&key=k&preferred=99999999999
< ERR bad_params preferred+*
""",
    "create_open: no device takes files": """
> set_state host=one&device=1&state=drain
< OK
> create_open domain=d&key=k
< ERR no_devices No+devices+found+to+store+file
""",
    "create_open: how long the steps took": """
> create_open domain=d&key=k&debug_profile=1
< OK fid=1&devid=1&path=http://NODE/dev1/0/000/000/0000000001.fid&profpoints=3&prof_1_name=*
""",
    "create_open: without making directories": """
> set_server_setting key=skip_mkcol&value=1
< OK
> create_open domain=d&key=k&debug_profile=1
< OK fid=1&devid=1&path=http://NODE/dev1/0/000/000/0000000001.fid&profpoints=2&*
""",
    "create_open: the storage node being away does not matter": """
$ STOP
> create_open domain=d&key=k
< OK fid=1&*
""",
    "create_open: the alternative address, which create_close must be asked with, too": """
> update_host host=one&altip=127.0.0.2&altmask=10.0.0.0/8
< OK hostid=1&hostname=one
> create_open domain=d&key=k&zone=alt
< OK fid=1&devid=1&path=http://127.0.0.2:PORT/dev1/0/000/000/0000000001.fid
$ PUT /dev1/0/000/000/0000000001.fid hello
> create_close domain=d&fid=1&devid=1&key=k&path=http://127.0.0.2:PORT/dev1/0/000/000/0000000001.fid
< ERR bogus_args bogus_args
> create_close domain=d&fid=1&devid=1&key=k&path=http://127.0.0.2:PORT/dev1/0/000/000/0000000001.fid&zone=alt
< OK
""",
    "create_open: the alternative address for clients inside its network": """
> update_host host=one&altip=127.0.0.2&altmask=127.0.0.0/8
< OK hostid=1&hostname=one
> create_open domain=d&key=k
< OK fid=1&devid=1&path=http://127.0.0.2:PORT/dev1/0/000/000/0000000001.fid
""",
    # --- create_close -------------------------------------------------------------------------------------------------
    "create_close: a file is stored": STORED
    + """
> file_info domain=d&key=k&devices=1
< OK fid=1&domain=d&class=default&key=k&length=5&devcount=1&devids=1
> file_debug fid=1
< OK checksum=NONE&devids=1&devpath_1=http://NODE/dev1/0/000/000/0000000001.fid&fid_fid=1&*
""",
    "create_close: what has to be given": f"""
> create_close fid=1
{NO_DOMAIN}
> create_close domain=x
{UNREG_DOMAIN}
> create_close domain=d
< ERR no_fid no_fid
> create_close domain=d&fid=0
< ERR no_fid no_fid
> create_close domain=d&fid=1
< ERR no_devid no_devid
> create_close domain=d&fid=1&devid=1
< ERR no_path no_path
""",
    "create_close: a malformed checksum; the upload stays open": f"""
{OPENED}
> {CLOSE}&checksum=MD5:beef
< ERR invalid_checksum_format invalid_checksum_format
> {CLOSE}&checksum=CRC:{HELLO}
< ERR invalid_checksum_format invalid_checksum_format
> {CLOSE}
< OK
""",
    "create_close: a key that is too long; the upload stays open": f"""
{OPENED}
> {CLOSE}{"k" * 1024}
< ERR invalid_key A+key+has+at+most+1024+bytes
> {CLOSE}
< OK
""",
    "create_close: another path than was handed out; the upload stays open": f"""
{OPENED}
> create_close domain=d&fid=1&devid=1&key=k&path={P2}
< ERR bogus_args bogus_args
> create_close domain=d&fid=1&devid=9&key=k&path={P1}
< ERR bogus_args bogus_args
> create_close domain=d&fid=99999999999999999999&devid=1&key=k&path={P1}
< ERR bogus_args bogus_args
> {CLOSE}
< OK
""",
    "create_close: a second time": f"""
{STORED}
> {CLOSE}
{NO_TEMP_FILE}
> get_paths domain=d&key=k
< OK paths=1&path1={P1}
""",
    "create_close: never opened": f"""
> {CLOSE}
{NO_TEMP_FILE}
""",
    "create_close: in another domain than it was opened in": f"""
> create_domain domain=e
< OK domain=e
{OPENED}
> create_close domain=e&fid=1&devid=1&path={P1}&key=k
{NO_TEMP_FILE}
> {CLOSE}
< OK
""",
    "create_close: on a device that was not offered": f"""
{OPENED}
> create_close domain=d&fid=1&devid=2&key=k&path=http://NODE/dev2/0/000/000/0000000001.fid
< ERR invalid_destdev File+uploaded+to+invalid+dest+2.+Valid+devices+were:+1
> {CLOSE}
{NO_TEMP_FILE}
{QUEUED_FOR_DELETION}
""",
    "create_close: without a key gives the upload up": f"""
{OPENED}
> create_close domain=d&fid=1&devid=1&path={P1}
< OK
{QUEUED_FOR_DELETION}
> {CLOSE}
{NO_TEMP_FILE}
""",
    "create_close: a key of one zero is a key": f"""
{OPENED}
> create_close domain=d&fid=1&devid=1&path={P1}&key=0
< OK
> get_paths domain=d&key=0
< OK paths=1&path1={P1}
""",
    "create_close: nothing was uploaded": f"""
> create_open domain=d&key=k
< OK fid=1&*
> {CLOSE}&size=5
< ERR size_verify_error Expected:+5%3B+actual:+0+%28missing%29%3B+path:+{P1}%3B+error:+
> {CLOSE}
{NO_TEMP_FILE}
{QUEUED_FOR_DELETION}
""",
    "create_close: the storage node does not answer": f"""
{OPENED}
$ STOP
> {CLOSE}
< ERR size_verify_error Expected:+%3B+actual:+0+%28cantreach%29%3B+path:+{P1}%3B+error:+*
> {CLOSE}
{NO_TEMP_FILE}
""",
    "create_close: another size": f"""
{OPENED}
> {CLOSE}&size=6
< ERR size_mismatch Expected:+6%3B+actual:+5%3B+path:+{P1}
{QUEUED_FOR_DELETION}
""",
    "create_close: a size that is no number": f"""
{OPENED}
> {CLOSE}&size=five
< ERR size_mismatch Expected:+five%3B+actual:+5%3B+path:+{P1}
""",
    "create_close: sizes that are not verified": f"""
{OPENED}
> {CLOSE}&size=0
< OK
""",
    "create_close: a negative size is not verified": f"""
{OPENED}
> {CLOSE}&size=-1
< OK
""",
    "create_close: a checksum that holds, in a class that does not keep it": f"""
{OPENED}
> {CLOSE}&size=5&checksum=SHA-1:{HELLO_SHA1}&checksumverify=1
< OK
> file_debug fid=1
< OK checksum=NONE&*
""",
    "create_close: a checksum that its class keeps": f"""
> create_open domain=d&class=md5
< OK fid=1&*
$ PUT /dev1/0/000/000/0000000001.fid hello
> {CLOSE}&checksum=MD5:{HELLO}
< OK
> file_info domain=d&key=k
< OK fid=1&domain=d&class=md5&key=k&length=5&devcount=1&checksum=MD5:{HELLO}
""",
    "create_close: a CRC that its class keeps, verified": f"""
> create_class domain=d&class=crc&mindevcount=1&hashtype=CRC64NVME
< OK *
> create_open domain=d&class=crc
< OK fid=1&*
$ PUT /dev1/0/000/000/0000000001.fid hello
> {CLOSE}&checksum=CRC64NVME:{HELLO_CRC64}&checksumverify=1
< OK
> file_info domain=d&key=k
< OK fid=1&domain=d&class=crc&key=k&length=5&devcount=1&checksum=CRC64NVME:{HELLO_CRC64}
""",
    "create_close: the media type of the file": f"""
{OPENED}
> {CLOSE}&content_type=image/%C3%A9
< ERR bad_params content_type+*
> {CLOSE}&content_type={"x" * 256}
< ERR bad_params content_type+*
> {CLOSE}&content_type=image/jpeg
< OK
> file_info domain=d&key=k&times=1
< OK *&content_type=image/jpeg
""",
    "create_close: a checksum that does not hold": f"""
{OPENED}
> {CLOSE}&checksum=MD5:{"0" * 32}&checksumverify=1
< ERR checksum_mismatch Expected:+Checksum%5Bf%3D1%3BMD5%3D{"0" * 32}%5D%3B+actual:+MD5:{HELLO}%3B+path:+{P1}
{QUEUED_FOR_DELETION}
""",
    "create_close: a checksum is believed unless it is to be verified": f"""
{OPENED}
> {CLOSE}&checksum=MD5:{"0" * 32}
< OK
""",
    "create_close: on a key that exists replaces it": f"""
{STORED}
> create_open domain=d&key=k
< OK fid=2&devid=1&path={P2}
$ PUT /dev1/0/000/000/0000000002.fid world!
> create_close domain=d&fid=2&devid=1&path={P2}&key=k
< OK
> get_paths domain=d&key=k
< OK paths=1&path1={P2}
{QUEUED_FOR_DELETION}
""",
    "create_close: the content of a file may be empty": f"""
> create_open domain=d&key=k
< OK fid=1&*
$ PUT /dev1/0/000/000/0000000001.fid
> {CLOSE}&size=0
< OK
> file_info domain=d&key=k
< OK fid=1&domain=d&class=default&key=k&length=0&devcount=1
""",
    "create_close: of a fid that is a file already": f"""
{STORED}
! TEMPFILE 1
> {CLOSE}
< ERR fid_exists fid_exists
> get_paths domain=d&key=k
< OK paths=1&path1={P1}
> {CLOSE}
{NO_TEMP_FILE}
""",
}
