"""Registry of the line protocol's verbs, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tawara.tracker import (
    device_liveness,
    devices,
    domains,
    explanation,
    files,
    fsck,
    hosts,
    listing,
    maintenance,
    rebalance,
    removal,
    settings,
    status,
    uploads,
)
from tawara.tracker.context import Verb

QUICK: Mapping[str, Verb] = MappingProxyType(
    {
        "drain_status": devices.drain_status,
        "delete": files.delete,
        "file_debug": files.file_debug,
        "file_info": files.file_info,
        "fsck_clearlog": fsck.fsck_clearlog,
        "fsck_getlog": fsck.fsck_getlog,
        "fsck_reset": fsck.fsck_reset,
        "fsck_start": fsck.fsck_start,
        "fsck_status": fsck.fsck_status,
        "fsck_stop": fsck.fsck_stop,
        "get_devices": devices.get_devices,
        "get_domains": domains.get_domains,
        "get_hosts": hosts.get_hosts,
        "get_paths": files.get_paths,
        "list_fids": listing.list_fids,
        "list_keys": listing.list_keys,
        "noop": maintenance.noop,
        "rebalance_reset": rebalance.rebalance_reset,
        "rebalance_set_policy": rebalance.rebalance_set_policy,
        "rebalance_start": rebalance.rebalance_start,
        "rebalance_status": rebalance.rebalance_status,
        "rebalance_stop": rebalance.rebalance_stop,
        "rebalance_test": rebalance.rebalance_test,
        "rename": files.rename,
        "replicate_now": maintenance.replicate_now,
        "scrub_getlog": fsck.scrub_getlog,
        "scrub_status": fsck.scrub_status,
        "server_setting": settings.server_setting,
        "server_settings": settings.server_settings,
        "set_server_setting": settings.set_server_setting,
        "tawara_absences": device_liveness.absences,
        "test": maintenance.test,
        "updateclass": files.updateclass,
    }
)
"""Verbs that use little but the database. If it answers without suspending, they start where the request is read,
outside any task, and often finish before a task would have started. What needs a task, such as a timeout, must create
one."""

THOROUGH: Mapping[str, Verb] = MappingProxyType(
    {
        "clear_cache": maintenance.clear_cache,
        "create_class": domains.create_class,
        "create_close": uploads.create_close,
        "create_device": devices.create_device,
        "create_domain": domains.create_domain,
        "create_host": hosts.create_host,
        "create_open": uploads.create_open,
        "delete_class": domains.delete_class,
        "delete_domain": domains.delete_domain,
        "delete_host": hosts.delete_host,
        "do_monitor_round": maintenance.clear_cache,
        "drain_device": devices.drain_device,
        "set_state": devices.set_state,
        "set_weight": devices.set_weight,
        "sleep": maintenance.sleep,
        "tawara_placement": status.tawara_placement,
        "tawara_delete_device": removal.tawara_delete_device,
        "tawara_explain": explanation.tawara_explain,
        "tawara_removal": removal.tawara_removal,
        "tawara_remove_setting": removal.tawara_remove_setting,
        "tawara_status": status.tawara_status,
        "tawara_accept": devices.accept,
        "tawara_trust": device_liveness.trust,
        "update_class": domains.update_class,
        "update_host": hosts.update_host,
    }
)
"""Verbs that use storage nodes or wait for the monitor; each request is a task."""

WRITING = frozenset(
    {
        *("create_open", "create_close", "delete", "rename", "updateclass"),
        *("create_class", "create_domain", "delete_class", "delete_domain", "update_class", "tawara_delete_device"),
        *("fsck_start", "rebalance_start", "replicate_now"),
    }
)
"""Verbs that are refused while the database is known to be older than what the devices hold."""
