"""What the errors of the libraries that reach S3 mean to who runs the platform, and how to mend it.

boto3's come with a code; delta-rs's and pyarrow's are told apart by their text alone. What is done where
they may be raised is `s3`'s; the same for a local disk is in `object_store`.
"""

import re
from dataclasses import dataclass

import botocore.exceptions as boto_errors

from cai_assets.failures import CaiError, PermanentError, TransientError
from cai_assets.resources.object_store import local_spool_base

_WRONG_CREDENTIALS = {
    "403",
    "401",
    "AccessDenied",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
_WRONG_REGION = {
    "301",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegionName",
    "PermanentRedirect",
}
_NO_BUCKET = {"404", "NoSuchBucket"}
_PASSING = {"500", "502", "503", "504", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
_UNREACHABLE = (
    boto_errors.ConnectionError,
    boto_errors.HTTPClientError,
    boto_errors.ConnectionClosedError,
)
# What delta-rs and pyarrow say, in text only, when the way to the server is at fault.
_UNREACHABLE_TEXTS = (
    "error sending request",
    "Connect timeout",
    "connection closed",
    "Connection refused",
    "NETWORK_CONNECTION",
    "curlCode",
    "operation timed out",
)

# The same for a server in trouble: delta-rs, then pyarrow.
_IN_TROUBLE = re.compile(r"(?:Server returned non-2xx status code\W+|HTTP status )(5\d\d)\b")


@dataclass(frozen=True)
class Place:
    """What an error names.

    Attributes:
        bucket: the bucket alone.
        address: s3:// address of bucket and prefix.
        endpoint: http:// or https:// address of an S3-compatible server; None for AWS.
        region: of the bucket.
    """

    bucket: str
    address: str
    endpoint: str | None
    region: str


def explain(error: Exception, doing: str, place: Place) -> CaiError | None:
    """The platform's error for what a library raised, or None where it is no matter of S3.

    Args:
        error: what was raised.
        doing: what was done, as "writing lake.messages".
        place: where.
    """
    if isinstance(error, boto_errors.ClientError):
        return _explain_code(code_of(error), doing, place)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, boto_errors.ClientError):  # boto3 wraps what an upload met
        return _explain_code(code_of(cause), doing, place)
    if isinstance(error, boto_errors.NoCredentialsError | boto_errors.PartialCredentialsError):
        return PermanentError(f"{doing}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, boto_errors.ProfileNotFound):
        return PermanentError(f"{doing}: {error}; AWS_PROFILE names none that is configured")
    if isinstance(error, boto_errors.InvalidRegionError):
        return PermanentError(f"{doing}: AWS_REGION={place.region} is no region; write one as eu-central-1")
    text = str(error)
    if isinstance(error, _UNREACHABLE) or any(known in text for known in _UNREACHABLE_TEXTS):
        return TransientError(
            f"{doing}: no connection to {place.endpoint} (S3_ENDPOINT_URL): {_brief(text)}"
            if place.endpoint
            else f"{doing}: no connection to AWS in AWS_REGION={place.region} (S3_ENDPOINT_URL is not set): "
            f"{_brief(text)}"
        )
    if trouble := _IN_TROUBLE.search(_line(text)):
        return TransientError(f"{doing}: the server answers {trouble[1]}")
    for code in ("NoSuchBucket", *sorted(_WRONG_CREDENTIALS - {"401", "403"})):
        if code in text:
            return _explain_code(code, doing, place)
    if isinstance(error, OSError) and "No space left" in text:
        return PermanentError(f"{doing}: the disk of {local_spool_base()} is full; set TMPDIR to another")
    return None


def _explain_code(code: str, doing: str, place: Place) -> CaiError:
    if code in _WRONG_CREDENTIALS:
        return PermanentError(
            f"{doing}: the server refuses the credentials ({code}); check AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY, and that they may read, write and delete in {place.address}"
        )
    if code in _WRONG_REGION:
        return PermanentError(
            f"{doing}: AWS_REGION={place.region} is not the region of bucket {place.bucket} ({code})"
        )
    if code in _NO_BUCKET:
        return PermanentError(f"{doing}: bucket {place.bucket} does not exist (S3_BUCKET); create it")
    if code in _PASSING:
        return TransientError(f"{doing}: the server answers {code}")
    return PermanentError(f"{doing}: the server answers {code}")


def code_of(error: boto_errors.ClientError) -> str:
    """The code that the server names, as "NoSuchBucket"; "unknown" where it names none."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _line(text: str) -> str:
    """One line of what delta-rs says in many, with colours."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", text).replace("↳", ":").split())


def _brief(text: str) -> str:
    text = _line(text)
    return text if len(text) <= 300 else text[:300] + "…"
