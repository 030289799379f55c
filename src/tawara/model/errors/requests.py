"""Errors of requests that are malformed or contradict the configuration: HTTP 4xx, exit code 2."""

from __future__ import annotations

from tawara.model.errors.families import UsageError


class BadParams(UsageError):
    """Parameters of a tracker command do not fit."""

    code = "bad_params"
    message = "Invalid parameters to command; please see documentation"
    hint = None


class BadArgs(UsageError):
    """Parameters of a tracker command contradict each other."""

    code = "bad_args"
    message = "The arguments contradict each other"
    text = code
    hint = None


class BogusArgs(UsageError):
    """create_close names another path than create_open gave out."""

    code = "bogus_args"
    message = "The path is not the one that was given out for this file and device"
    text = code
    hint = "Close the upload with the path of create_open."


class UnknownCommand(UsageError):
    """The tracker has no such command."""

    code = "unknown_command"
    message = "Unknown server command"
    hint = None


class LineTooLong(UsageError):
    """A request line exceeds limits.Limits.tracker_line."""

    code = "line_too_long"
    message = "The request line is longer than this tracker accepts"
    hint = "Send fewer or shorter arguments."


class NoDomain(UsageError):
    """The parameter domain is missing."""

    code = "no_domain"
    message = "No domain provided"
    hint = None


class NoKey(UsageError):
    """The parameter key is missing."""

    code = "no_key"
    message = "No key provided"
    text = code
    hint = None


class NoClass(UsageError):
    """The parameter class is missing."""

    code = "no_class"
    message = "No class provided"
    hint = None


class NoHost(UsageError):
    """The parameter host is missing."""

    code = "no_host"
    message = "No host provided"
    hint = None


class NoIp(UsageError):
    """The parameter ip is missing."""

    code = "no_ip"
    message = "IP required to create host"
    hint = None


class NoPort(UsageError):
    """The parameter port is missing."""

    code = "no_port"
    message = "Port required to create host"
    hint = None


class NoFid(UsageError):
    """The parameter fid is missing."""

    code = "no_fid"
    message = "No fid provided"
    text = code
    hint = None


class NoDevid(UsageError):
    """The parameter devid is missing."""

    code = "no_devid"
    message = "No devid provided"
    text = code
    hint = None


class NoPath(UsageError):
    """The parameter path is missing."""

    code = "no_path"
    message = "No path provided"
    text = code
    hint = None


class InvalidKey(UsageError):
    """The key breaks the rules for keys; also the code for a key that does not exist where MogileFS answers so."""

    code = "invalid_key"
    message = "The key is not valid, or does not exist"
    text = code
    hint = "A key has 1 to 1,024 bytes."


class InvalidName(UsageError):
    """The name of a domain, class or host breaks the rules for names."""

    code = "invalid_name"
    message = "The name is not valid"
    text = code
    hint = None


class InvalidDestdev(UsageError):
    """create_close names a device that create_open did not offer."""

    code = "invalid_destdev"
    message = "The file was uploaded to a device that was not offered"
    hint = "Upload to one of the devices of create_open."


class InvalidMindevcount(UsageError):
    """The number of copies is less than 1."""

    code = "invalid_mindevcount"
    message = "The mindevcount must be at least 1"
    hint = None


class InvalidReplpolicy(UsageError):
    """The replication policy cannot be parsed."""

    code = "invalid_replpolicy"
    message = "Invalid replication policy"
    hint = "Policies are described in docs/policies.md."


class InvalidHashtype(UsageError):
    """The hash type of a class is unknown."""

    code = "invalid_hashtype"
    message = "Unknown hash type"
    text = code
    hint = "Use NONE, MD5, SHA-1, CRC32C or CRC64NVME."


class InvalidChecksumFormat(UsageError):
    """A checksum is not NAME:HEX."""

    code = "invalid_checksum_format"
    message = "Invalid checksum: the form is NAME:HEX"
    text = code
    hint = "NAME is MD5, SHA-1, CRC32C or CRC64NVME."


class InvalidState(UsageError):
    """The state of a device is unknown."""

    code = "invalid_state"
    message = "Invalid device state"
    text = code
    hint = "Use alive, dead, down, readonly or drain."


class InvalidDevid(UsageError):
    """The id of a device is not a whole number."""

    code = "invalid_devid"
    message = "Invalid device id"
    text = code
    hint = "A device id is a whole number."


class InvalidFormat(UsageError):
    """The value of a setting has the wrong form."""

    code = "invalid_format"
    message = "The value does not have the form that this setting needs"
    hint = "`tawara settings list` shows the form of each."


class UnknownState(UsageError):
    """The state of a host is unknown."""

    code = "unknown_state"
    message = "Invalid/unknown state"
    hint = None


class AfterMismatch(UsageError):
    """The key after which a listing continues does not begin with its prefix."""

    code = "after_mismatch"
    message = "Pattern does not match the after-value?"
    hint = None


class NotWritable(UsageError):
    """The setting is kept by the store itself or does not exist."""

    code = "not_writable"
    message = "This setting cannot be changed"
    text = code
    hint = "`tawara settings list` shows those that can."


class StateTooHigh(UsageError):
    """A dead device is set alive without being down in between."""

    code = "state_too_high"
    message = "Status cannot go from dead to alive; must use down"
    hint = None


class HostMismatch(UsageError):
    """The device belongs to another host than the command names."""

    code = "host_mismatch"
    message = "The device specified doesn't belong to the host specified"
    hint = "`tawara device list` shows each with its host."


class NodelDefaultClass(UsageError):
    """The class named default cannot be deleted."""

    code = "nodel_default_class"
    message = "Cannot delete the default class"
    hint = None


class BadRebalPol(UsageError):
    """The rebalance policy cannot be parsed."""

    code = "bad_rebal_pol"
    message = "Invalid rebalance policy"
    hint = "`tawara rebalance start --help` describes it."
