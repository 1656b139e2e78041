"""Signed addresses of a call's files."""

from datetime import datetime, timedelta, timezone
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from api.replies import ColdError
from shared.aws_errors import error_code
from shared.errors import ProblemError
from shared.times import utc

# A signed address also ends when the credentials that signed it end. Those of a function's role last for hours, and
# AWS renews them before their end; the last minutes of one may be lost, and the page then asks for another address.
LIFETIME = timedelta(minutes=15)
# With these, the address names the bucket's own region, also for a bucket that is new: no redirect, which a signature
# would not survive.
SIGNING = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
_COLD = ("GLACIER", "DEEP_ARCHIVE")
_GONE = ("404", "NoSuchKey", "405", "MethodNotAllowed")  # S3 answers the last two for a delete marker


def check_restored(s3: Any, bucket: str, key: str) -> None:
    """Raises ColdError if an address of the object would lead to nothing, and ProblemError if there is no object."""
    try:
        head = s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) in _GONE:
            raise ProblemError(404, "The call has no such file in the archive.") from None
        raise
    is_cold = head.get("StorageClass") in _COLD or "ArchiveStatus" in head
    if is_cold and 'ongoing-request="false"' not in head.get("Restore", ""):
        raise ColdError


def sign(
    s3: Any, bucket: str, key: str, content_type: str, *, download: bool, now: datetime | None = None
) -> dict[str, str]:
    """The address of an object. `download` makes a browser save it under the object's name, without the folder."""
    name = key.rpartition("/")[2]
    named = {"ResponseContentDisposition": f'attachment; filename="{name}"'} if download else {}
    url = s3.generate_presigned_url(
        "get_object",
        Params={"Bucket": bucket, "Key": key, "ResponseContentType": content_type, **named},
        ExpiresIn=int(LIFETIME.total_seconds()),
    )
    expires = (now or datetime.now(timezone.utc)) + LIFETIME
    return {"url": url, "expires_at": utc(expires), "content_type": content_type}
