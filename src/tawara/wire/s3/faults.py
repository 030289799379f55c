"""Error answers of S3: each code with its HTTP status and sentence, and the codes of the store's own errors."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from tawara.model import errors
from tawara.model.errors import TawaraError
from tawara.wire.s3.xml_out import Value, render


class FaultCode(Enum):
    """The code of an S3 error answer; the value is (code, HTTP status, sentence)."""

    ACCESS_DENIED = ("AccessDenied", 403, "Access Denied")
    ACCESS_FORBIDDEN = ("AccessForbidden", 403, "Access is forbidden")
    AUTHORIZATION_HEADER_MALFORMED = (
        "AuthorizationHeaderMalformed",
        400,
        "The authorization header that you provided is not valid",
    )
    AUTHORIZATION_QUERY_PARAMETERS = (
        "AuthorizationQueryParametersError",
        400,
        "The authorization parameters in the query are not valid",
    )
    BAD_DIGEST = ("BadDigest", 400, "The checksum that you specified does not match what was received")
    BAD_REQUEST = ("BadRequest", 400, "The request is not valid")
    BUCKET_ALREADY_EXISTS = ("BucketAlreadyExists", 409, "The bucket name is taken by another account")
    BUCKET_ALREADY_OWNED = ("BucketAlreadyOwnedByYou", 409, "The bucket exists already, and you own it")
    BUCKET_NOT_EMPTY = ("BucketNotEmpty", 409, "The bucket that you tried to delete is not empty")
    CONDITIONAL_REQUEST_CONFLICT = (
        "ConditionalRequestConflict",
        409,
        "A conflicting operation changed the object during this request",
    )
    ENTITY_TOO_LARGE = ("EntityTooLarge", 400, "The upload exceeds the maximum allowed size")
    ENTITY_TOO_SMALL = ("EntityTooSmall", 400, "The upload is smaller than the minimum allowed size")
    EXPIRED_TOKEN = ("ExpiredToken", 400, "The provided token has expired")
    INCOMPLETE_BODY = (
        "IncompleteBody",
        400,
        "You did not provide the number of bytes specified by the request's header fields",
    )
    INTERNAL_ERROR = ("InternalError", 500, "An internal error occurred. Try again")
    INVALID_ACCESS_KEY_ID = ("InvalidAccessKeyId", 403, "The access key id that you provided does not exist")
    INVALID_ARGUMENT = ("InvalidArgument", 400, "Invalid argument")
    INVALID_BUCKET_NAME = ("InvalidBucketName", 400, "The specified bucket name is not valid")
    INVALID_BUCKET_STATE = ("InvalidBucketState", 409, "The request is not valid for the state of the bucket")
    INVALID_DIGEST = ("InvalidDigest", 400, "The Content-MD5 that you specified is not valid")
    INVALID_LOCATION = ("InvalidLocationConstraint", 400, "The specified location constraint is not valid")
    INVALID_PART = ("InvalidPart", 400, "A specified part was not found, or its entity tag does not match")
    INVALID_PART_NUMBER = ("InvalidPartNumber", 416, "The requested part number is not satisfiable")
    INVALID_PART_ORDER = ("InvalidPartOrder", 400, "The list of parts is not in ascending order")
    INVALID_POLICY_DOCUMENT = ("InvalidPolicyDocument", 400, "The policy document is not valid")
    INVALID_RANGE = ("InvalidRange", 416, "The requested range is not satisfiable")
    INVALID_REQUEST = ("InvalidRequest", 400, "Invalid request")
    INVALID_STORAGE_CLASS = ("InvalidStorageClass", 400, "The storage class that you specified is not valid")
    INVALID_TAG = ("InvalidTag", 400, "The tag is not valid")
    INVALID_TOKEN = ("InvalidToken", 400, "The provided token is malformed or otherwise invalid")
    INVALID_URI = ("InvalidURI", 400, "The specified URI could not be parsed")
    KEY_TOO_LONG = ("KeyTooLongError", 400, "The key is longer than 1,024 bytes")
    MALFORMED_POST = ("MalformedPOSTRequest", 400, "The body is not well-formed multipart/form-data")
    MALFORMED_TRAILER = ("MalformedTrailerError", 400, "The trailing fields are not well-formed or not as announced")
    MALFORMED_XML = ("MalformedXML", 400, "The XML is not well-formed or not of the published schema")
    MAX_POST_PRE_DATA_LENGTH = (
        "MaxPostPreDataLengthExceeded",
        400,
        "The fields of the form before the file are too large",
    )
    METADATA_TOO_LARGE = ("MetadataTooLarge", 400, "The metadata exceed the maximum allowed size")
    METHOD_NOT_ALLOWED = ("MethodNotAllowed", 405, "The method is not allowed against this resource")
    MISSING_CONTENT_LENGTH = ("MissingContentLength", 411, "You must provide the Content-Length header field")
    NO_SUCH_BUCKET = ("NoSuchBucket", 404, "The specified bucket does not exist")
    NO_SUCH_KEY = ("NoSuchKey", 404, "The specified key does not exist")
    NO_SUCH_TAG_SET = ("NoSuchTagSet", 404, "There is no tag set")
    NO_SUCH_UPLOAD = ("NoSuchUpload", 404, "The upload does not exist: it was aborted, completed or never created")
    NOT_IMPLEMENTED = ("NotImplemented", 501, "This server does not implement the operation")
    NOT_MODIFIED = ("NotModified", 304, "Not modified")
    PRECONDITION_FAILED = ("PreconditionFailed", 412, "At least one of the preconditions did not hold")
    REQUEST_TIMEOUT = ("RequestTimeout", 400, "The body was not received within the time limit")
    REQUEST_TIME_TOO_SKEWED = (
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the server's time is too large",
    )
    SHA256_MISMATCH = (
        "XAmzContentSHA256Mismatch",
        400,
        "The x-amz-content-sha256 that you specified does not match what was received",
    )
    SIGNATURE_DOES_NOT_MATCH = (
        "SignatureDoesNotMatch",
        403,
        "The signature that was calculated does not match the one that you provided. Check your secret and the signing"
        " method",
    )
    SLOW_DOWN = ("SlowDown", 503, "Reduce your request rate")
    SERVICE_UNAVAILABLE = ("ServiceUnavailable", 503, "The service cannot answer now. Try again")
    INSUFFICIENT_STORAGE = ("InsufficientStorage", 507, "No storage is left for this object")

    @property
    def code(self) -> str:
        """The word in the element Code, by which clients distinguish errors."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[1]

    @property
    def sentence(self) -> str:
        """The message where there is no more specific one."""
        return self.value[2]


class S3Fault(Exception):
    """The answer to the request is an error with this code."""

    def __init__(self, code: FaultCode, message: str | None = None, details: Sequence[tuple[str, Value]] = ()) -> None:
        """`details`: further elements of the answer, such as the name of the argument."""
        self.code = code
        self.message = message or code.sentence
        self.details = tuple(details)
        super().__init__(f"{code.code}: {self.message}")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.code.status

    def body(self, *, resource: str, request_id: str, host_id: str) -> bytes:
        """Render the answer's XML; the ids are those of the answer's header fields."""
        return render(
            "Error",
            [
                ("Code", self.code.code),
                ("Message", self.message),
                *self.details,
                ("Resource", resource),
                ("RequestId", request_id),
                ("HostId", host_id),
            ],
            namespace=None,
        )


def invalid_argument(name: str, value: str, message: str) -> S3Fault:
    """Return the fault for an argument (parameter or header field) with an unusable value."""
    return S3Fault(FaultCode.INVALID_ARGUMENT, message, [("ArgumentName", name), ("ArgumentValue", value[:1024])])


_CODES: Final[dict[type[TawaraError], FaultCode]] = {
    errors.UnregDomain: FaultCode.NO_SUCH_BUCKET,
    errors.UnknownKey: FaultCode.NO_SUCH_KEY,
    errors.PreconditionFailed: FaultCode.PRECONDITION_FAILED,
    errors.DomainNotFound: FaultCode.NO_SUCH_BUCKET,
    errors.DomainHasFiles: FaultCode.BUCKET_NOT_EMPTY,
    errors.DomainHasClasses: FaultCode.INVALID_BUCKET_STATE,
    errors.DomainExists: FaultCode.BUCKET_ALREADY_OWNED,
    errors.NoDevices: FaultCode.INSUFFICIENT_STORAGE,
    errors.NodeFull: FaultCode.INSUFFICIENT_STORAGE,
    errors.DatabaseFull: FaultCode.INSUFFICIENT_STORAGE,
    errors.NoTempFile: FaultCode.NO_SUCH_UPLOAD,
    errors.NoSuchUpload: FaultCode.NO_SUCH_UPLOAD,
    errors.NoReservedKeys: FaultCode.NOT_IMPLEMENTED,
    errors.Busy: FaultCode.SLOW_DOWN,
    errors.NotFoundError: FaultCode.NO_SUCH_KEY,
    errors.ConflictError: FaultCode.CONDITIONAL_REQUEST_CONFLICT,
    errors.UsageError: FaultCode.INVALID_ARGUMENT,
    errors.DeniedError: FaultCode.ACCESS_DENIED,
    errors.UnavailableError: FaultCode.SERVICE_UNAVAILABLE,
    errors.CorruptError: FaultCode.BAD_DIGEST,
}
"""Class of the store's errors -> code; a class without an entry has that of its nearest base."""


def fault_of(error: TawaraError) -> S3Fault:
    """Translate an error of the store. The message of an unexpected one stays in the log: it may name internals."""
    for each in type(error).__mro__:
        if (code := _CODES.get(each)) is not None:
            return S3Fault(code, error.message if error.http < 500 and error.specific else None)
    return S3Fault(FaultCode.INTERNAL_ERROR)
