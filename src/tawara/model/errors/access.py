"""Errors about access keys, and about requests that carry one."""

from __future__ import annotations

from tawara.model.errors.families import (
    ConflictError,
    DeniedError,
    NotFoundError,
    UnavailableError,
    UsageError,
)


class InvalidGrant(UsageError):
    """The text of a grant cannot be parsed."""

    code = "invalid_grant"
    message = "Invalid grant"
    hint = "Write DOMAIN=RIGHTS or DOMAIN/PREFIX=RIGHTS with rights of r, w, l, a: 'photos=rw', 'logs-*=r'."


class InvalidKeyName(UsageError):
    """The name of an access key or account breaks the rules for such names."""

    code = "invalid_key_name"
    message = "The name is not valid"
    hint = "A name has up to 100 letters, digits, and _ . @ + -, and begins with a letter or a digit."


class InvalidExpiry(UsageError):
    """The duration after which an access key expires is malformed, zero or too long."""

    code = "invalid_expiry"
    message = "The duration is not valid"
    hint = "Write a number and s, m, h, d or w, such as 90d or 12h; at most 100 years."


class NoAccessKey(NotFoundError):
    """No access key has this name or id."""

    code = "no_access_key"
    message = "Access key not found"
    hint = "`tawara key list` shows the access keys."


class AccessKeyExists(ConflictError):
    """An access key, possibly a revoked one, has this name already."""

    code = "access_key_exists"
    message = "An access key of this name exists already"
    hint = "Choose another name; names of revoked keys are not used again."


class AccountExists(ConflictError):
    """An account has the name of the new key, which is to have an account of its own."""

    code = "account_exists"
    message = "An account of this name exists already"
    hint = "Give the key another name, or say --account NAME to add it to an account."


class Forbidden(DeniedError):
    """The access key is valid, but has no grant for the request."""

    code = "forbidden"
    message = "The access key has no grant for this"
    hint = "`tawara key show NAME` prints the grants of a key."
    http = 403


class SecretUnreadable(UnavailableError):
    """The secret of an access key cannot be decrypted: this process has another key file than it was sealed with."""

    code = "secret_unreadable"
    message = "The access key cannot be checked: this server has not the key file with which it was sealed"
    hint = "Copy the key file (store.keys_file) from a machine of the store that has it."
