"""The fsck and rebalance commands with each of their outcomes, as transcripts (docs/mogilefs.md 5). No workers run in
these stores; `! TURN` takes the tick that a worker would take, at the unix time 1000000000."""

from __future__ import annotations

FSCK_RUNNING = "< ERR fsck_running fsck+is+already+running"
FSCK_IN_THE_WAY = "< ERR fsck_running fsck+running%3B+cannot+run+rebalance+at+same+time"
REBAL_RUNNING = "< ERR rebal_running rebalance+is+already+running"
REBAL_IN_THE_WAY = "< ERR rebal_running rebalance+running%3B+cannot+run+fsck+at+same+time"
NO_POLICY = "< ERR no_rebal_policy No+rebalance+policy+available"
NO_STATE = "< ERR no_rebal_state No+available+rebalance+status"

TRANSCRIPTS = {
    # --- fsck ---------------------------------------------------------------------------------------------------------
    "fsck_start": f"""
! STORE a b c
> fsck_start
< OK
> fsck_start
{FSCK_RUNNING}
> server_setting key=fsck_host
< OK key=fsck_host&value=*
> fsck_status
< OK running=1&host=*&max_fid_checked=0&policy_only=0&end_fid=3&start_time=*&stop_time=0&current_time=*\
&max_logid=0&queued=0&stalled=0&*
""",
    "fsck_start: not beside a rebalance": f"""
! SETTING rebal_host elsewhere
> fsck_start
{REBAL_IN_THE_WAY}
""",
    "fsck_start: a check continues where it stopped, and starts again when it had ended": """
! STORE a b c
! SETTING queue_rate_for_fsck 2
> fsck_start
< OK
! TURN fsck
> fsck_status
< OK running=1&*&max_fid_checked=2&*&end_fid=3&*&queued=2&stalled=0&*
> fsck_stop
< OK
> fsck_status
< OK running=0&host=&max_fid_checked=0&*&queued=0&stalled=0&*
! TASK 1 1 - -
! SETTING fsck_highest_fid_checked 1
> fsck_start
< OK
> server_setting key=fsck_start_fid
< OK key=fsck_start_fid&value=1
! SETTING tawara_fsck_turn 0
! TURN fsck
> fsck_status
< OK running=0&host=&max_fid_checked=3&*&end_fid=3&*&stop_time=1000000000&*
> fsck_start
< OK
> fsck_status
< OK running=1&*&max_fid_checked=0&*&end_fid=3&*
""",
    "fsck_stop: also when none runs": """
> fsck_stop
< OK
> fsck_status
< OK running=0&host=&max_fid_checked=0&policy_only=0&end_fid=0&start_time=0&stop_time=1*&current_time=*\
&max_logid=0&queued=0&stalled=0&*
""",
    "fsck_reset": """
! STORE a b c
! FSCK_LOG 1 MISS 2
! SETTING fsck_sum_evcount_POVI 5
> fsck_status
< OK *&max_logid=1&queued=0&stalled=0&*num_MISS=1&num_POVI=5
> fsck_reset policy_only=1&startpos=2
< OK
> fsck_status
< OK running=0&host=&max_fid_checked=2&policy_only=1&end_fid=3&start_time=0&stop_time=0&current_time=*\
&max_logid=1&queued=0&stalled=0&*
> fsck_start
< OK
! TURN fsck
> fsck_status
< OK *&max_fid_checked=3&policy_only=1&*&queued=1&stalled=0&*
> fsck_reset
< OK
> fsck_status
< OK *&max_fid_checked=0&policy_only=0&end_fid=3&*
""",
    "fsck_status: counts what was summed up and what came after": """
! SETTING fsck_sum_evcount_MISS 5
! SETTING fsck_logid_processed 1
! FSCK_LOG 1 MISS 2
! FSCK_LOG 1 MISS 3
! FSCK_LOG 1 GONE -
> fsck_status
< OK *&max_logid=3&queued=0&stalled=0&*num_GONE=1&num_MISS=6
""",
    "fsck_getlog": """
> fsck_getlog
< OK row_count=0
! FSCK_LOG 4 MISS 2
! FSCK_LOG 5 GONE -
> fsck_getlog
< OK row_count=2&row_1_logid=1&row_1_utime=77&row_1_fid=4&row_1_evcode=MISS&row_1_devid=2\
&row_2_logid=2&row_2_utime=77&row_2_fid=5&row_2_evcode=GONE
> fsck_getlog after_logid=1
< OK row_count=1&row_1_logid=2&row_1_utime=77&row_1_fid=5&row_1_evcode=GONE
""",
    "fsck_clearlog: the counts stay": """
! FSCK_LOG 4 MISS 2
> fsck_clearlog
< OK
> fsck_getlog
< OK row_count=0
> fsck_status
< OK *&num_MISS=1
""",
    "file_debug: what waits to be checked and moved": """
! STORE a
! TASK 1 1 - -
! TASK 1 2 7 8,9
> file_debug fid=1
< OK *&fsckqueue_fid=1&fsckqueue_devid=&fsckqueue_type=1&fsckqueue_nexttry=5&*\
&rebqueue_fid=1&rebqueue_devid=7&rebqueue_type=2&rebqueue_nexttry=5&*&rebqueue_arg=8,9&*
""",
    # --- rebalance ----------------------------------------------------------------------------------------------------
    "rebalance_set_policy": """
> rebalance_set_policy policy=from_devices%3D1%20to_devices%3D2,3
< OK
> server_setting key=rebal_policy
< OK key=rebal_policy&value=from_devices%3D1+to_devices%3D2,3
> rebalance_set_policy policy=from_devics%3D1
< ERR bad_rebal_pol Invalid+setting+from_devics
> rebalance_set_policy policy=limit_by%3Dpercent%20limit%3D10
< ERR bad_rebal_pol limit_by%3Dpercent+is+not+supported%3B+say+limit_by%3Dsize
> rebalance_set_policy
< ERR bad_rebal_pol A+rebalance+policy+is+written+key%3Dvalue+key%3Dvalue
> server_setting key=rebal_policy
< OK key=rebal_policy&value=from_devices%3D1+to_devices%3D2,3
! SETTING rebal_host elsewhere
> rebalance_set_policy policy=from_devices%3D1
< ERR no_set_rebal cannot+change+rebalance+policy+while+rebalance+is+running
""",
    "rebalance_test": f"""
> rebalance_test
{NO_POLICY}
> rebalance_set_policy policy=from_devices%3D1
< OK
> rebalance_test
< OK sdevs=1&ddevs=
> create_device hostname=one&devid=3
< OK
! OBSERVE 3
> rebalance_test
< OK sdevs=1&ddevs=3
""",
    "rebalance_start": f"""
> rebalance_start
{NO_POLICY}
> rebalance_set_policy policy=from_devices%3D1
< OK
! SETTING fsck_host elsewhere
> rebalance_start
{FSCK_IN_THE_WAY}
> fsck_stop
< OK
> rebalance_start
< OK state=completed_devs%3D+source_devs%3D1+sdev_current%3D0+sdev_lastfid%3D0+sdev_limit%3Dnone+limit%3Dnone\
+fids_queued%3D0+bytes_queued%3D0+time_started%3D*+time_finished%3D0+time_stopped%3D0\
+time_latest_run%3D0+time_latest_empty_run%3D0+empty_runs%3D0
> rebalance_start
{REBAL_RUNNING}
> server_settings
< OK *&key_*=rebal_host&*
""",
    "rebalance_status": f"""
> rebalance_status
{NO_STATE}
! STORE a b
> create_device hostname=one&devid=3
< OK
! OBSERVE 3
> rebalance_set_policy policy=from_devices%3D1
< OK
> rebalance_status
{NO_STATE}
> rebalance_start
< OK state=*
! TURN rebalance
> rebalance_status
< OK state=completed_devs%3D+source_devs%3D+sdev_current%3D1+sdev_lastfid%3D2+sdev_limit%3Dnone+limit%3Dnone\
+fids_queued%3D2+bytes_queued%3D10+time_started%3D*+time_latest_run%3D1000000000+*
> get_devices devid=1
< OK *dev1_status=drain*
> file_debug fid=1
< OK *rebqueue_devid=1&rebqueue_type=2&*rebqueue_arg=3&*
""",
    "rebalance_stop: the device is let go, and what was not begun is taken back": """
> rebalance_stop
< ERR rebal_not_started Rebalance+not+running
! STORE a b
> create_device hostname=one&devid=3
< OK
! OBSERVE 3
> rebalance_set_policy policy=from_devices%3D1
< OK
> rebalance_start
< OK state=*
! TURN rebalance
> rebalance_stop
< OK
> server_setting key=rebal_signal
< OK key=rebal_signal&value=stop
! TURN rebalance
> get_devices devid=1
< OK *dev1_status=alive*
> rebalance_status
< OK state=*sdev_current%3D1+sdev_lastfid%3D0+*+fids_queued%3D0+bytes_queued%3D0+*+time_stopped%3D1000000000+*
> rebalance_stop
< ERR rebal_not_started Rebalance+not+running
> rebalance_start
< OK state=*sdev_current%3D1+*+time_stopped%3D0+*
! SETTING tawara_rebal_turn 0
! TURN rebalance
> get_devices devid=1
< OK *dev1_status=drain*
""",
    "rebalance_reset": f"""
> rebalance_reset
< OK
> rebalance_set_policy policy=from_devices%3D1
< OK
> rebalance_start
< OK state=*
> rebalance_reset
< ERR rebal_running rebalance+is+running
> rebalance_stop
< OK
! TURN rebalance
> rebalance_reset
< OK
> rebalance_status
{NO_STATE}
""",
    # --- ours: emptying devices, and the scrub ------------------------------------------------------------------------
    "drain_device": """
> drain_device
< ERR bad_params *
> drain_device device=9
< ERR no_device *
> drain_device device=1
< OK
> drain_status
< OK devices=1&current_time=*&dev1_devid=1&*
> drain_device device=1&undo=1
< OK
> drain_status
< OK devices=0&current_time=*
> set_state host=one&device=2&state=dead
< OK
> drain_device device=2
< ERR state_too_high *
""",
    "scrub_status": """
> scrub_status
< OK period=*&began=*&max_fid_checked=0&*
> scrub_getlog
< OK row_count=0
""",
}
