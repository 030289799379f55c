"""Errors of data that is not what was sent or stored: HTTP 422, exit code 7."""

from __future__ import annotations

from tawara.model.errors.families import CorruptError


class SizeMismatch(CorruptError):
    """The stored file has another size than the client named."""

    code = "size_mismatch"
    message = "The stored file has another size than the client named"
    hint = "Upload the file again."


class SizeVerifyError(CorruptError):
    """The size of an uploaded file cannot be verified: it is not where the client says."""

    code = "size_verify_error"
    message = "The uploaded file is not where the client says it is"
    hint = "Upload the file again."


class ChecksumMismatch(CorruptError):
    """Bytes do not have the checksum recorded or named for them."""

    code = "checksum_mismatch"
    message = "The stored file has another checksum than expected"
    hint = None


class CopyErr(CorruptError):
    """A replica could not be copied."""

    code = "copy_err"
    message = "A copy failed"
    hint = None
