"""The jobs at Amazon Transcribe, and their names."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from shared import keys
from shared.aws_errors import error_code
from shared.errors import PoisonError
from shared.observability import mask_numbers

STEP = "transcription"
_NAME = re.compile(r"([A-Za-z0-9_-]{1,128})\.([0-9a-f]{16})")
_BUSY = {"LimitExceededException", "ThrottlingException", "TooManyRequestsException"}
_MOST_OF_REASON = 500  # characters


@dataclass(frozen=True)
class Job:
    """A job as Amazon Transcribe tells it."""

    is_running: bool
    is_completed: bool
    reason: str


class Jobs:
    """The jobs of one stack. Their names begin with `prefix`, and are unique within the account and the region."""

    def __init__(self, transcribe: Any, prefix: str, bucket_name: str, kms_key_arn: str) -> None:
        self._transcribe, self._prefix = transcribe, prefix
        self._bucket_name, self._kms_key_arn = bucket_name, kms_key_arn

    def name(self, conversation_id: str, order: str, attempt: int) -> str:
        """The name of one attempt for one version of a recording: at most 182 characters of the 200 that AWS allows."""
        digest = hashlib.sha256(f"{order} {attempt}".encode()).hexdigest()[:16]
        return f"{self._prefix}.{conversation_id}.{digest}"

    def call_of(self, name: str) -> str | None:
        """The conversation id in a job's name; None if the job is not one of this stack."""
        found = _NAME.fullmatch(name.removeprefix(f"{self._prefix}.")) if name.startswith(f"{self._prefix}.") else None
        return found[1] if found else None

    def folder(self, name: str) -> str:
        """Where Amazon Transcribe writes the results of a job of this stack."""
        return keys.transcribing(str(self.call_of(name)), name.rpartition(".")[2])

    def start(self, name: str, mp3_key: str) -> Literal["started", "busy"]:
        """Start a job, unless it was started before. `busy`: as many jobs are running as the account allows.

        Raises PoisonError with the reason if Amazon Transcribe refuses the job.
        """
        try:
            self._transcribe.start_transcription_job(
                TranscriptionJobName=name,
                Media={"MediaFileUri": f"s3://{self._bucket_name}/{mp3_key}"},
                MediaFormat="mp3",
                IdentifyLanguage=True,
                Settings={"ShowSpeakerLabels": True, "MaxSpeakerLabels": 2},  # an agent and a caller
                Subtitles={"Formats": ["vtt"]},
                OutputBucketName=self._bucket_name,
                OutputKey=f"{self.folder(name)}result.json",
                **({"OutputEncryptionKMSKeyId": self._kms_key_arn} if self._kms_key_arn else {}),
            )
        except ClientError as error:
            if error_code(error) in _BUSY:
                return "busy"
            if error_code(error) == "BadRequestException":
                raise PoisonError(STEP, _sentence(error.response["Error"].get("Message"))) from None
            if error_code(error) != "ConflictException":
                raise
        return "started"

    def find(self, name: str) -> Job | None:
        """None if Amazon Transcribe does not know the job."""
        try:
            job = self._transcribe.get_transcription_job(TranscriptionJobName=name)["TranscriptionJob"]
        except ClientError as error:
            if error_code(error) in ("NotFoundException", "BadRequestException"):  # the name is always valid
                return None
            raise
        status = job["TranscriptionJobStatus"]
        return Job(status in ("QUEUED", "IN_PROGRESS"), status == "COMPLETED", _sentence(job.get("FailureReason")))

    def delete(self, name: str) -> None:
        """Delete what Amazon Transcribe keeps of a job that has ended. It is no error if the job is gone."""
        try:
            self._transcribe.delete_transcription_job(TranscriptionJobName=name)
        except ClientError as error:
            if error_code(error) not in ("NotFoundException", "BadRequestException"):
                raise


def _sentence(reason: str | None) -> str:
    """Amazon Transcribe's reason without numbers that may be a caller's: it may quote the key of the recording."""
    return mask_numbers(reason or "Amazon Transcribe gave no reason.")[:_MOST_OF_REASON]
