"""Errors of things that do not exist: HTTP 404, exit code 3."""

from __future__ import annotations

from tawara.model.errors.families import NotFoundError


class UnregDomain(NotFoundError):
    """No domain has this name, in commands about files."""

    code = "unreg_domain"
    message = "Domain name invalid/not found"
    hint = "`tawara domain list` shows the domains."


class DomainNotFound(NotFoundError):
    """No domain has this name, in commands about domains."""

    code = "domain_not_found"
    message = "Domain not found"
    hint = "`tawara domain list` shows the domains."


class UnregClass(NotFoundError):
    """The domain has no class of this name, in commands about files."""

    code = "unreg_class"
    message = "Class not found in the domain"
    text = code
    hint = "`tawara class list` shows the classes."


class ClassNotFound(NotFoundError):
    """The domain has no class of this name, in commands about classes."""

    code = "class_not_found"
    message = "Class not found"
    hint = "`tawara class list` shows the classes."


class UnknownKey(NotFoundError):
    """No file has this key."""

    code = "unknown_key"
    message = "Not found"
    text = code
    hint = None


class NoneMatch(NotFoundError):
    """No key has the prefix, or none comes after the one named."""

    code = "none_match"
    message = "No keys match that pattern and after-value (if any)."
    hint = None


class NoDevice(NotFoundError):
    """No device has this id."""

    code = "no_device"
    message = "Device not found"
    hint = "`tawara device list` shows the devices."


class UnknownHost(NotFoundError):
    """No host has this name, in commands about devices."""

    code = "unknown_host"
    message = "Host not found"
    hint = "`tawara host list` shows the hosts."


class HostNotFound(NotFoundError):
    """No host has this name, in commands about hosts."""

    code = "host_not_found"
    message = "Host not found"
    hint = "`tawara host list` shows the hosts."


class UnknownHostid(NotFoundError):
    """No host has this id."""

    code = "unknown_hostid"
    message = "No host has that id"
    text = code
    hint = "`tawara host list` shows the hosts."


class NoTempFile(NotFoundError):
    """The upload does not exist: closed, or expired."""

    code = "no_temp_file"
    message = "No tempfile or file already closed"
    hint = "Upload the file again."


class NoSuchUpload(NotFoundError):
    """The upload in parts does not exist: completed, aborted, expired or never created."""

    code = "no_such_upload"
    message = "The upload in parts does not exist: it was completed or aborted, or has expired"
    hint = "Create the upload again, with all its parts."


class NoRebalPolicy(NotFoundError):
    """No rebalance policy is set."""

    code = "no_rebal_policy"
    message = "No rebalance policy available"
    hint = "`tawara rebalance start` sets one."


class NoRebalState(NotFoundError):
    """No rebalance has run."""

    code = "no_rebal_state"
    message = "No available rebalance status"
    hint = None
