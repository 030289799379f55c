"""Errors of things that exist already, are in use or have changed: HTTP 409 or 412, exit code 4."""

from __future__ import annotations

from tawara.model.errors.families import ConflictError


class KeyExists(ConflictError):
    """A file has the new key already."""

    code = "key_exists"
    message = "Target key name already exists; can't overwrite."
    hint = None


class FidExists(ConflictError):
    """A file is stored under this fid already."""

    code = "fid_exists"
    message = "A file is stored under that fid already"
    text = code
    hint = None


class FidInUse(ConflictError):
    """An upload has this fid already."""

    code = "fid_in_use"
    message = "That fid is in use already"
    text = code
    hint = None


class DomainExists(ConflictError):
    """A domain has this name already."""

    code = "domain_exists"
    message = "That domain already exists"
    hint = None


class DomainHasFiles(ConflictError):
    """The domain still has files."""

    code = "domain_has_files"
    message = "Domain still has files, unable to delete"
    hint = "Delete its files first: `tawara rm --help`."


class DomainHasClasses(ConflictError):
    """The domain still has classes."""

    code = "domain_has_classes"
    message = "Domain still has classes, unable to delete"
    text = code
    hint = "`tawara class remove` removes them."


class ClassExists(ConflictError):
    """A class of the domain has this name already."""

    code = "class_exists"
    message = "That class already exists in that domain"
    hint = None


class ClassHasFiles(ConflictError):
    """The class still has files."""

    code = "class_has_files"
    message = "Class still has files, unable to delete"
    hint = "Delete its files, or move them to another class."


class HostExists(ConflictError):
    """A host has this name already."""

    code = "host_exists"
    message = "That host already exists"
    hint = None


class HostNotEmpty(ConflictError):
    """The host still has devices."""

    code = "host_not_empty"
    message = "Unable to delete host; it contains devices still"
    hint = "`tawara device remove` removes them."


class DeviceInUse(ConflictError):
    """The device is not dead, or rows still name it."""

    code = "device_in_use"
    message = "The device is not dead, or still has files"
    hint = None


class ExistingDevid(ConflictError):
    """A device has this id already."""

    code = "existing_devid"
    message = "A device with that id exists already"
    text = code
    hint = None


class Dup(ConflictError):
    """A name or number that must be unique is in use."""

    code = "dup"
    message = "Duplicate name/number used."
    hint = None


class DeviceNotAbsent(ConflictError):
    """The device is not recorded as unreachable."""

    code = "device_not_absent"
    message = "The device is not recorded as absent"
    hint = "`tawara status` shows which devices are absent."


class FsckRunning(ConflictError):
    """A check is running."""

    code = "fsck_running"
    message = "A check (fsck) is running; stop it first"
    hint = "`tawara fsck stop` stops it."


class RebalRunning(ConflictError):
    """A rebalance is running."""

    code = "rebal_running"
    message = "A rebalance is running; stop it first"
    hint = "`tawara rebalance stop` stops it."


class RebalNotStarted(ConflictError):
    """No rebalance is running."""

    code = "rebal_not_started"
    message = "Rebalance not running"
    hint = None


class NoSetRebal(ConflictError):
    """The rebalance policy is locked by a running rebalance."""

    code = "no_set_rebal"
    message = "The policy cannot be changed while a rebalance is running"
    hint = "`tawara rebalance stop` stops it."


class LeaseLost(ConflictError):
    """The lease of a row of work expired, and another worker took the row over or released it."""

    code = "lease_lost"
    message = "The lease expired, and another worker took the work over"
    hint = None


class PortTaken(ConflictError):
    """Another process listens on the port."""

    code = "port_taken"
    message = "The port is in use"
    hint = "Stop the other process, or configure another port."


class InUse(ConflictError):
    """Another process uses the directory, device or database row."""

    code = "in_use"
    message = "In use by another Tawara"
    hint = None


class NoReservedKeys(ConflictError):
    """The database keeps keys as text, as MogileFS made it, and cannot hide parts of uploads among them."""

    code = "no_reserved_keys"
    message = "Uploads in parts need a database that was created by Tawara; this one was made by MogileFS"
    hint = "`tawara backup` and `tawara restore` move the store to a new database."


class PreconditionFailed(ConflictError):
    """A condition of the request does not hold."""

    code = "precondition_failed"
    message = "Precondition failed"
    hint = None
    http = 412
