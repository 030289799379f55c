"""The admin commands with each of their outcomes, as transcripts (docs/mogilefs.md 4); see test_tracker_commands."""

from __future__ import annotations

from tests.acceptance.tracker_upload_commands import STORED

BAD_PARAMS = "< ERR bad_params Invalid+parameters+to+command%3B+please+see+documentation"
NO_HOST = "< ERR no_host No+host+provided"
DUP = "< ERR dup Duplicate+name/number+used."

TRANSCRIPTS = {
    # --- domains ------------------------------------------------------------------------------------------------------
    "create_domain": """
> create_domain
< ERR no_domain No+domain+provided
> create_domain domain=d
< ERR domain_exists That+domain+already+exists
> create_domain domain=%C3%A9+x
< OK domain=%C3%A9+x
> create_open domain=%C3%A9+x
< OK fid=1&*
""",
    "create_domain: names that no one could type": f"""
> create_domain domain=%FF
< ERR invalid_name domain+must+be+UTF-8
> create_domain domain=a%2Fb
< ERR invalid_name %27a/b%27+cannot+name+a+domain,+for+in+DOMAIN/KEY+and+in+URLs+it+means+something+else
> create_domain domain=..
< ERR invalid_name %27..%27+cannot+name+a+domain,+for+in+DOMAIN/KEY+and+in+URLs+it+means+something+else
> create_domain domain=a%0Ab
< ERR invalid_name domain+must+be+printable
> create_domain domain={"d" * 256}
< ERR invalid_name domain+has+at+most+255+bytes
""",
    "delete_domain": f"""
> delete_domain
< ERR no_domain No+domain+provided
> delete_domain domain=x
< ERR domain_not_found Domain+not+found
> delete_domain domain=d
< ERR domain_has_classes domain_has_classes
> delete_class domain=d&class=md5
< OK domain=d&class=md5
{STORED}
> delete_domain domain=d
< ERR domain_has_files Domain+still+has+files,+unable+to+delete
> delete domain=d&key=k
< OK
> create_class domain=d&class=default&mindevcount=1
< OK class=default&mindevcount=1&domain=d
> delete_domain domain=d
< OK domain=d
> list_keys domain=d
< ERR unreg_domain Domain+name+invalid/not+found
""",
    "get_domains": """
> get_domains
< OK domains=1&domain1=d&domain1classes=2\
&domain1class1name=default&domain1class1mindevcount=2&domain1class1replpolicy=MultipleHosts%28%29&domain1class1hashtype=NONE\
&domain1class2name=md5&domain1class2mindevcount=1&domain1class2replpolicy=MultipleHosts%28%29&domain1class2hashtype=MD5
""",
    # --- classes ------------------------------------------------------------------------------------------------------
    "create_class": """
> create_class class=c&mindevcount=2
< ERR no_domain No+domain+provided
> create_class domain=d&mindevcount=2
< ERR no_class No+class+provided
> create_class domain=d&class=c
< ERR invalid_mindevcount The+mindevcount+must+be+at+least+1
> create_class domain=d&class=c&mindevcount=0
< ERR invalid_mindevcount The+mindevcount+must+be+at+least+1
> create_class domain=d&class=c&mindevcount=256
< ERR invalid_mindevcount The+mindevcount+must+be+at+most+255
> create_class domain=d&class=c&mindevcount=2&replpolicy=Nope()
< ERR invalid_replpolicy There+is+no+replication+policy+%27Nope%27
> create_class domain=d&class=c&mindevcount=2&hashtype=CRC
< ERR invalid_hashtype invalid_hashtype
> create_class domain=x&class=c&mindevcount=2
< ERR domain_not_found Domain+not+found
> create_class domain=d&class=md5&mindevcount=2
< ERR class_exists That+class+already+exists+in+that+domain
> create_class domain=d&class=c&mindevcount=3&replpolicy=MultipleDevices()&hashtype=SHA-1
< OK class=c&mindevcount=3&domain=d
> get_domains
< OK domains=1&domain1=d&domain1classes=3*&domain1class3name=c&domain1class3mindevcount=3\
&domain1class3replpolicy=MultipleDevices%28%29&domain1class3hashtype=SHA-1
""",
    "create_class: default gets the number 0": """
> create_class domain=d&class=default&mindevcount=3
< OK class=default&mindevcount=3&domain=d
> get_domains
< OK domains=1&domain1=d&domain1classes=2&domain1class1name=default&domain1class1mindevcount=3&*
> create_class domain=d&class=default&mindevcount=3
< ERR class_exists That+class+already+exists+in+that+domain
""",
    "update_class": """
> update_class class=md5&mindevcount=2
< ERR no_domain No+domain+provided
> update_class domain=d&mindevcount=2
< ERR no_class No+class+provided
> update_class domain=d&class=md5
< ERR invalid_mindevcount The+mindevcount+must+be+at+least+1
> update_class domain=d&class=md5&mindevcount=2&replpolicy=Nope
< ERR invalid_replpolicy *
> update_class domain=d&class=md5&mindevcount=2&hashtype=CRC
< ERR invalid_hashtype invalid_hashtype
> update_class domain=x&class=md5&mindevcount=2
< ERR domain_not_found Domain+not+found
> update_class domain=d&class=nope&mindevcount=2
< ERR class_not_found Class+not+found
> update_class domain=d&class=md5&mindevcount=2&replpolicy=MultipleDevices()
< OK class=md5&mindevcount=2&domain=d
> update_class domain=d&class=md5&mindevcount=4&replpolicy=
< OK class=md5&mindevcount=4&domain=d
> get_domains
< OK *&domain1class2mindevcount=4&domain1class2replpolicy=MultipleDevices%28%29&domain1class2hashtype=MD5
> update_class domain=d&class=md5&mindevcount=4&hashtype=NONE
< OK class=md5&mindevcount=4&domain=d
> get_domains
< OK *&domain1class2hashtype=NONE
> update_class domain=d&class=default&mindevcount=5
< OK class=default&mindevcount=5&domain=d
> get_domains
< OK *&domain1class1name=default&domain1class1mindevcount=5&*
""",
    "delete_class": """
> delete_class class=md5
< ERR no_domain No+domain+provided
> delete_class domain=d
< ERR no_class No+class+provided
> delete_class domain=d&class=default
< ERR nodel_default_class Cannot+delete+the+default+class
> delete_class domain=x&class=md5
< ERR domain_not_found Domain+not+found
> delete_class domain=d&class=nope
< ERR class_not_found Class+not+found
! STORE k
> updateclass domain=d&key=k&class=md5
< OK
> delete_class domain=d&class=md5
< ERR class_has_files Class+still+has+files,+unable+to+delete
> delete domain=d&key=k
< OK
> delete_class domain=d&class=md5
< OK domain=d&class=md5
""",
    # --- hosts --------------------------------------------------------------------------------------------------------
    "create_host": f"""
> create_host ip=10.0.0.2&port=7500
{NO_HOST}
> create_host host=one&ip=10.0.0.2&port=7500
< ERR host_exists That+host+already+exists
> create_host host=two&port=7500
< ERR no_ip IP+required+to+create+host
> create_host host=two&ip=10.0.0.2
< ERR no_port Port+required+to+create+host
> create_host host=two&ip=10.0.0.2&port=7500&status=asleep
< ERR unknown_state Invalid/unknown+state
> create_host host=two&ip=127.0.0.1&port=7500
{DUP}
> create_host host=two&ip=10.0.0.2&port=99999
< ERR bad_params port+must+be+a+number+from+1+to+65535
> create_host host=two&ip=a/b&port=7500
< ERR bad_params ip+must+be+an+IP+address+or+a+host+name
> create_host host=two&ip=0.0.0.0&port=7500
< ERR bad_params ip+must+be+the+address+of+a+machine,+and+0.0.0.0+is+not
> create_host host=two&ip=10.0.0.2&port=7500
< OK hostid=2&hostname=two
> create_host host=three&ip=10.0.0.3&port=7500&getport=80&altip=10.1.0.3&altmask=10.1.0.0/16&status=alive
< OK hostid=3&hostname=three
> create_host host=four&ip=10.1.0.3&port=7500
{DUP}
> get_hosts hostid=2
< OK hosts=1&host1_hostid=2&host1_status=down&host1_hostname=two&host1_hostip=10.0.0.2&host1_http_port=7500\
&host1_http_get_port=&host1_altip=&host1_altmask=
> get_hosts hostid=3
< OK hosts=1&host1_hostid=3&host1_status=alive&host1_hostname=three&host1_hostip=10.0.0.3&host1_http_port=7500\
&host1_http_get_port=80&host1_altip=10.1.0.3&host1_altmask=10.1.0.0/16
""",
    "update_host": f"""
> update_host
{NO_HOST}
> update_host host=two&status=asleep
< ERR host_not_found Host+not+found
> update_host host=one&status=asleep
< ERR unknown_state Invalid/unknown+state
> create_host host=two&ip=10.0.0.2&port=7500
< OK hostid=2&hostname=two
> update_host host=two&ip=127.0.0.1
{DUP}
> update_host host=two&altip=127.0.0.1
{DUP}
> update_host host=two&ip=10.0.0.9&port=7600&getport=7601&altip=10.1.0.9&altmask=10.1.0.0/16&status=readonly
< OK hostid=2&hostname=two
> get_hosts hostid=2
< OK hosts=1&host1_hostid=2&host1_status=readonly&host1_hostname=two&host1_hostip=10.0.0.9&host1_http_port=7600\
&host1_http_get_port=7601&host1_altip=10.1.0.9&host1_altmask=10.1.0.0/16
> update_host host=two&getport=&altip=&altmask=
< OK hostid=2&hostname=two
> get_hosts hostid=2
< OK *&host1_http_get_port=&host1_altip=&host1_altmask=
""",
    "delete_host": """
> delete_host
< ERR unknown_host Host+not+found
> delete_host host=two
< ERR unknown_host Host+not+found
> delete_host host=one
< ERR host_not_empty Unable+to+delete+host%3B+it+contains+devices+still
> create_host host=two&ip=10.0.0.2&port=7500
< OK hostid=2&hostname=two
> delete_host host=two
< OK
> get_hosts
< OK hosts=1&host1_hostid=1&*
""",
    "get_hosts": """
> get_hosts
< OK hosts=1&host1_hostid=1&host1_status=alive&host1_hostname=one&host1_hostip=127.0.0.1&*
> get_hosts hostid=9
< OK hosts=0
""",
    # --- devices ------------------------------------------------------------------------------------------------------
    "create_device": """
> create_device devid=3&hostid=1&state=asleep
< ERR invalid_state invalid_state
> create_device hostid=1
< ERR invalid_devid invalid_devid
> create_device devid=0&hostid=1
< ERR invalid_devid invalid_devid
> create_device devid=dev3&hostid=1
< ERR invalid_devid invalid_devid
> create_device devid=99999999999&hostid=1
< ERR invalid_devid invalid_devid
> create_device devid=3&hostid=9
< ERR unknown_hostid unknown_hostid
> create_device devid=3&hostname=nope
< ERR unknown_host Host+not+found
> create_device devid=3
< ERR bad_args No+hostid/hostname+parameter
> create_device devid=1&hostid=1
< ERR existing_devid existing_devid
> create_device devid=3&hostid=1
< OK
> create_device devid=4&hostname=one&state=down
< OK
> get_devices devid=3
< OK devices=1&dev1_devid=3&dev1_hostid=1&dev1_status=alive&dev1_weight=100&dev1_mb_total=&dev1_mb_used=&dev1_mb_free=\
&dev1_mb_asof=&dev1_observed_state=&dev1_utilization=&dev1_reject_bad_md5=
> get_devices devid=4
< OK devices=1&dev1_devid=4&dev1_hostid=1&dev1_status=down&*
""",
    "get_devices": """
> get_devices
< OK devices=2&dev1_devid=1&dev1_hostid=1&dev1_status=alive&dev1_weight=100\
&dev1_mb_total=1000&dev1_mb_used=100&dev1_mb_free=900&dev1_mb_asof=1\
&dev1_observed_state=writeable&dev1_utilization=0.40&dev1_reject_bad_md5=1\
&dev2_devid=2&dev2_hostid=1&dev2_status=readonly&*&dev2_observed_state=readable&dev2_utilization=&dev2_reject_bad_md5=0
> get_devices devid=9
< OK devices=0
""",
    "set_state": f"""
> set_state device=1&state=down
{BAD_PARAMS}
> set_state host=one&state=down
{BAD_PARAMS}
> set_state host=one&device=1
{BAD_PARAMS}
> set_state host=one&device=1&state=asleep
{BAD_PARAMS}
> set_state host=one&device=9&state=down
< ERR no_device Device+not+found
> set_state host=two&device=1&state=down
< ERR host_mismatch The+device+specified+doesn%27t+belong+to+the+host+specified
> set_state host=one&device=1&state=dead
< OK
> set_state host=one&device=1&state=alive
< ERR state_too_high Status+cannot+go+from+dead+to+alive%3B+must+use+down
> set_state host=one&device=1&state=down
< OK
> set_state host=one&device=1&state=alive
< OK
> get_devices devid=1
< OK devices=1&dev1_devid=1&dev1_hostid=1&dev1_status=alive&*
""",
    "set_weight": f"""
> set_weight device=1&weight=5
{BAD_PARAMS}
> set_weight host=one&device=1
{BAD_PARAMS}
> set_weight host=one&device=1&weight=-1
{BAD_PARAMS}
> set_weight host=one&device=1&weight=much
{BAD_PARAMS}
> set_weight host=one&device=9&weight=5
< ERR no_device Device+not+found
> set_weight host=two&device=1&weight=5
< ERR host_mismatch *
> set_weight host=one&device=1&weight=0
< OK
> get_devices devid=1
< OK devices=1&dev1_devid=1&dev1_hostid=1&dev1_status=alive&dev1_weight=0&*
""",
    # --- settings -----------------------------------------------------------------------------------------------------
    "server_settings": """
> set_server_setting key=fsck_checksum&value=off
< OK
! SETTING fsck_host elsewhere
! SETTING rebal_host elsewhere
> server_settings
< OK key_count=5&key_1=case_sensitive_list_keys&value_1=1&key_2=fsck_checksum&value_2=off\
&key_3=rebal_host&value_3=elsewhere&key_4=schema_version&value_4=17&*
""",
    "server_setting": f"""
> server_setting
{BAD_PARAMS}
> server_setting key=schema_version
< OK key=schema_version&value=17
> server_setting key=nope
< OK key=nope&value=
! SETTING fsck_host elsewhere
> server_setting key=fsck_host
< OK key=fsck_host&value=elsewhere
""",
    "set_server_setting": f"""
> set_server_setting value=1
{BAD_PARAMS}
> set_server_setting key=schema_version&value=1
< ERR not_writable not_writable
> set_server_setting key=fsck_host&value=1
< ERR not_writable not_writable
> set_server_setting key=zone_a%20b&value=
< ERR not_writable not_writable
> set_server_setting key=skip_mkcol&value=perhaps
< ERR invalid_format Doesn%27t+match+a+boolean:+*
> set_server_setting key=skip_mkcol&value=yes
< OK
> server_setting key=skip_mkcol
< OK key=skip_mkcol&value=1
> set_server_setting key=skip_mkcol
< OK
> server_setting key=skip_mkcol
< OK key=skip_mkcol&value=0
> set_server_setting key=memcache_ttl&value=long
< ERR invalid_format *
> set_server_setting key=memcache_ttl&value=60
< OK
> set_server_setting key=zone_near&value=10.0.0.0/8,%20192.168.1.0/24
< OK
> set_server_setting key=zone_near&value=here
< ERR invalid_format *
> set_server_setting key=queue_size_for_fsck&value=7
< OK
> set_server_setting key=network_zones&value=near,far
< OK
> set_server_setting key=fsck_checksum&value=CRC
< ERR invalid_format *
> set_server_setting key=fsck_checksum&value=MD5
< OK
> server_setting key=fsck_checksum
< OK key=fsck_checksum&value=MD5
> set_server_setting key=fsck_checksum&value=class
< OK
> server_setting key=fsck_checksum
< OK key=fsck_checksum&value=
""",
    "set_server_setting: replicas of the database have a version": """
> set_server_setting key=slave_keys&value=a,b
< OK
> server_setting key=slave_version
< OK key=slave_version&value=1
> set_server_setting key=slave_keys&value=
< OK
> server_setting key=slave_keys
< OK key=slave_keys&value=
> server_setting key=slave_version
< OK key=slave_version&value=2
""",
}
