"""Send a test call to a deployed stack as ElevenLabs does, and wait for its JSON and its MP3 in S3.

It needs three variables, from the environment or from a .env file in the current folder or the project's folder:

  ELEVENLABS_POST_CALL_URL  the stack's output PostCallUrl, with its path
  ELEVENLABS_HMAC_KEY       the key that signs webhooks: the value of the secret in the stack's output WebhookSecretArn
  S3_BUCKET_NAME            the stack's output BucketName

AWS credentials and region are found as usual (AWS_PROFILE, AWS_REGION, ...); they need s3:GetObject and s3:ListBucket
on the bucket. For the stack of `make local` set what it prints: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY and AWS_REGION.

The call is invented and comes from the number +1 202 555 0199. Each run sends a new call. It stays in the archive
and in Mem0 like any other call.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a file, Python looks for modules in scripts/ and not in the project
    sys.path.insert(0, str(ROOT))

try:
    import httpx
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from dotenv import load_dotenv

    from scripts.aws_session import OpsError, aws_session
    from scripts.demo.calls import SampleCall, assessed, ended_five_minutes_ago, envelope, inbound
    from scripts.demo.recordings import mp3
    from scripts.demo.turns import alternating
    from scripts.terminal import Terminal
    from scripts.webhooks import send
    from shared import keys
    from shared.aws_errors import AwsError, error_code
    from shared.bucket import content
    from shared.times import utc
except ImportError as missing:
    sys.exit(f"{missing}. Run this with the project's own Python, .venv/bin/python; `make .venv/ready` sets it up.")

VARIABLES = ("ELEVENLABS_POST_CALL_URL", "ELEVENLABS_HMAC_KEY", "S3_BUCKET_NAME")
NUMBER = "+12025550199"
SECONDS = 8
WORDS = ("Storage test, can you hear me?", "Loud and clear. Please keep this call.", "It is kept. Goodbye!")
SUMMARY = "An invented call: an operator tested that calls are stored."
ANYWHERE = "us-east-1"  # if no region is set: through it S3 finds a bucket in any region
PATIENCE = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})

REFUSALS = {
    401: "the key in ELEVENLABS_HMAC_KEY is not the one in the stack's secret, or this machine's clock is wrong",
    429: "the endpoint is throttled; try again in a moment",
    500: "the ingest function failed; its log says why",
    503: "the stack cannot reach S3, SQS or its secret; the log of the ingest function says which",
}
WRONG_URL = "that is not the endpoint: ELEVENLABS_POST_CALL_URL is the stack's output PostCallUrl, with its path"
SIGN_IN = "sign in (aws sso login) or set AWS_PROFILE; for the stack of `make local` set what it prints"
OUT_OF_REACH = "S3 cannot be reached: check the network, AWS_REGION and AWS_ENDPOINT_URL"
ABSENT = (
    "it did not arrive in time. Look for the delivery_id in the archiver's log and in ArchiveDlq; check whether the "
    "stack keeps such calls (KeepAudio, MinimumCallSeconds, AgentIds), and that S3_BUCKET_NAME is its output BucketName"
)
AWS_FAULTS = {
    "NoSuchBucket": "there is no such bucket: S3_BUCKET_NAME is the stack's output BucketName",
    "InvalidBucketName": "S3_BUCKET_NAME is not a bucket name: it is the stack's output BucketName, without s3://",
    "ParamValidationError": "S3_BUCKET_NAME is not a bucket name: it is the stack's output BucketName, without s3://",
    "AccessDenied": "access denied: your AWS credentials need s3:GetObject and s3:ListBucket on the bucket",
    "InvalidAccessKeyId": f"AWS does not know your credentials: {SIGN_IN}",
    "SignatureDoesNotMatch": f"AWS does not accept your credentials: {SIGN_IN}",
    "ExpiredToken": f"your AWS credentials are out of date: {SIGN_IN}",
    "NoCredentialsError": f"there are no AWS credentials: {SIGN_IN}",
    "EndpointConnectionError": OUT_OF_REACH,
    "ConnectTimeoutError": OUT_OF_REACH,
    "ReadTimeoutError": f"no answer in time; {OUT_OF_REACH}",
}

PROGRESS = Terminal(stderr=True, soft_wrap=True)


class CheckError(Exception):
    """The check stops; the text says why and what to do."""


@dataclass(frozen=True)
class Settings:
    url: str
    key: str
    bucket: str


@dataclass(frozen=True)
class Stored:
    """An object as S3 stores it."""

    body: bytes
    content_type: str
    modified: datetime
    metadata: dict[str, str]


@dataclass(frozen=True)
class Expected:
    """An object that the call should become: a JSON value, or the bytes of an MP3."""

    name: str
    key: str
    content_type: str
    content: Any


class Report:
    """The results: each is shown at once, and all are counted at the end."""

    def __init__(self) -> None:
        self._console = Terminal(soft_wrap=True)
        self._findings: list[tuple[str, bool]] = []

    def heading(self, text: str) -> None:
        self._console.print()
        self._console.print(text, style="bold")

    def show(self, facts: Mapping[str, object], title: str = "") -> None:
        if title:
            self._console.print()
            self._console.print(f"  {title}", style="bold")
        for name, value in facts.items():
            self._console.print(f"  {name:<14} {value}")

    def add(self, text: str, *, good: bool) -> None:
        self._findings.append((text, good))
        self._print(text, good)

    def summarise(self, call: SampleCall) -> int:
        """Show all findings once more; returns the exit code."""
        self.heading("TEST SUMMARY")
        for text, good in self._findings:
            self._print(text, good)
        passed = all(good for _, good in self._findings)
        verdict = "PASSED: the call is stored as it was sent" if passed else "FAILED"
        self._console.print(f"{verdict} ({call.conversation_id})", style="bold green" if passed else "bold red")
        return 0 if passed else 1

    def _print(self, text: str, good: bool) -> None:
        self._console.print(f"{'✓' if good else '✗'} {text}", style="green" if good else "red")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if all is stored as it was sent, else 1."""
    options = parser().parse_args(arguments)
    try:
        return check(read_settings(), options.wait)
    except CheckError as error:
        PROGRESS.print(str(error), style="red")
    except KeyboardInterrupt:
        PROGRESS.print("Interrupted.")
    return 1


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    described = argparse.ArgumentParser(prog="test_s3_storage.py", description=__doc__, formatter_class=form)
    described.add_argument(
        "--wait", type=int, default=120, metavar="SECONDS", help="how long to wait for the objects (default: 120)"
    )
    return described


def read_settings() -> Settings:
    """The environment overrides the current folder's .env, which overrides the project's. Raises CheckError."""
    for file in (Path.cwd() / ".env", ROOT / ".env"):
        try:
            load_dotenv(file, interpolate=False)
        except (OSError, ValueError) as error:
            raise CheckError(f"{file} cannot be read: {error}.") from None
    values = [os.environ.get(name, "").strip() for name in VARIABLES]
    missing = [name for name, value in zip(VARIABLES, values, strict=True) if not value]
    if missing:
        raise CheckError(
            f"Not set: {', '.join(missing)}. Export each, or write it as NAME=value into {Path.cwd() / '.env'} "
            f"or {ROOT / '.env'}; --help says where its value is found."
        )
    return Settings(*values)


def check(settings: Settings, wait: int) -> int:
    """Both steps and the summary; returns the exit code."""
    call, report = invent(datetime.now(timezone.utc)), Report()
    try:
        deliver(settings, call, report)
        verify(settings, call, wait, report)
    except CheckError as error:
        report.add(str(error), good=False)
    return report.summarise(call)


def invent(now: datetime) -> SampleCall:
    """A short inbound call that ended five minutes before `now`, and has a recording."""
    conversation_id = f"conv_storage_test_{now:%Y%m%dT%H%M%S%f}"
    data = ended_five_minutes_ago(
        inbound(conversation_id, NUMBER, SECONDS, list(alternating(WORDS, 3))), int(now.timestamp())
    )
    data |= {"agent_id": "agent_storage_test", "agent_name": "Storage test", "user_id": None}
    return SampleCall(envelope(assessed(data, SUMMARY, "An operator", "The call was kept.")), NUMBER, mp3(SECONDS))


def deliver(settings: Settings, call: SampleCall, report: Report) -> None:
    """Post both webhooks of the call. Raises CheckError if one is not accepted: then S3 will not have the call."""
    report.heading("STEP 1: Send webhook to PostCall endpoint")
    report.show({"Endpoint": settings.url, "Conversation": call.conversation_id, "Number": call.number})
    bodies = {"post_call_transcription": call.transcript_body(), "post_call_audio": call.audio_body()}
    for event, body in bodies.items():
        report.show({"Size": f"{len(body):,} bytes", "Sent at": utc(datetime.now(timezone.utc))}, title=event)
        report.show({"Delivery id": post(settings, event, body)})
        report.add(f"{event}: accepted (HTTP 200)", good=True)


def post(settings: Settings, event: str, body: bytes) -> str:
    """The delivery_id. Raises CheckError."""
    try:
        response = send(settings.url, settings.key, body, is_test=True)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise CheckError(f"{event}: the endpoint cannot be reached: {error}") from None
    except httpx.TransportError as error:
        raise CheckError(f"{event}: no answer from the endpoint: {error}") from None
    if response.status_code != 200:
        reason = REFUSALS.get(response.status_code, WRONG_URL)
        raise CheckError(f"{event}: HTTP {response.status_code}: {reason}")
    try:
        return str(response.json()["delivery_id"])
    except (ValueError, TypeError, KeyError):
        raise CheckError(f"{event}: HTTP 200 without a delivery_id: {WRONG_URL}") from None


def verify(settings: Settings, call: SampleCall, wait: int, report: Report) -> None:
    """Wait for both objects, show them, and compare them with what was sent. Raises CheckError."""
    report.heading("STEP 2: Verify files in S3")
    report.show({"Bucket": settings.bucket})
    key = call.folder, call.conversation_id
    expected = [
        Expected("JSON", keys.call_json(*key), "application/json", call.data),
        Expected("MP3", keys.call_mp3(*key), "audio/mpeg", call.recording),
    ]
    found = wait_for(settings.bucket, [each.key for each in expected], wait)
    report.show({"Audio": "present" if expected[1].key in found else "not present"})
    for each in expected:
        examine(each, found.get(each.key), call, report)


def wait_for(bucket: str, awaited: Sequence[str], seconds: int) -> dict[str, Stored]:
    """The objects that arrive within the time. Raises CheckError."""
    client, start = s3(), time.monotonic()
    found: dict[str, Stored] = {}
    PROGRESS.print(f"Waiting for the archiver, {seconds} s at most ...")
    with PROGRESS.status("") as status:
        while True:
            for key in awaited:
                if key not in found and (stored := read(client, bucket, key)):
                    found[key] = stored
                    PROGRESS.print(f"{key} is there, {time.monotonic() - start:.0f} s after the call was sent.")
            passed = time.monotonic() - start
            if len(found) == len(awaited) or passed >= seconds:
                return found
            status.update(f"{len(found)} of {len(awaited)} files are there; waiting, {passed:.0f} of {seconds} s ...")
            time.sleep(1)


def s3() -> Any:
    """Raises CheckError."""
    try:
        return aws_session(otherwise=ANYWHERE).client("s3", config=PATIENCE)
    except OpsError as error:
        raise CheckError(f"S3: {error}") from None
    except (BotoCoreError, ValueError) as error:  # for example an AWS_ENDPOINT_URL that is not a URL
        raise CheckError(f"S3: your AWS settings are wrong: {error}") from None


def read(client: Any, bucket: str, key: str) -> Stored | None:
    """The object, or None if it is not there. Raises CheckError."""
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        return Stored(content(answer), answer["ContentType"], answer["LastModified"], answer["Metadata"])
    except AwsError as error:
        code = error_code(error)
        if code == "NoSuchKey":
            return None
        raise CheckError(f"S3, bucket {bucket}: {AWS_FAULTS.get(code, 'the request failed')} ({code})") from None


def examine(expected: Expected, stored: Stored | None, call: SampleCall, report: Report) -> None:
    """Show one object, and say what is wrong with it."""
    title = f"{expected.name}: {expected.key}"
    if stored is None:
        report.show({}, title)
        report.add(f"{expected.name}: {ABSENT}", good=False)
        return
    facts = {
        "Size": f"{len(stored.body):,} bytes",
        "Content type": stored.content_type,
        "Stored at": utc(stored.modified),
        "Conversation": stored.metadata.get("conversation_id"),
        "Number": stored.metadata.get("external_number"),
    }
    faults = list(find_faults(expected, stored, call))
    report.show(facts, title)
    report.add(f"{expected.name}: {'; '.join(faults) or 'stored as it was sent'}", good=not faults)


def find_faults(expected: Expected, stored: Stored, call: SampleCall) -> Iterator[str]:
    if isinstance(expected.content, bytes):
        if stored.body != expected.content:
            yield f"not the {len(expected.content):,} bytes that were sent"
    else:
        yield from differences(stored.body, expected.content)
    if stored.content_type != expected.content_type:
        yield f"the content type is not {expected.content_type}"
    for name, value in (("conversation_id", call.conversation_id), ("external_number", call.number)):
        if stored.metadata.get(name) != value:
            yield f"the metadata does not have {name} = {value}"


def differences(body: bytes, sent: dict[str, Any]) -> Iterator[str]:
    """How the stored JSON differs from the object that was sent."""
    try:
        stored = json.loads(body)
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        yield "not a JSON object"
    elif names := sorted(name for name in stored | sent if stored.get(name, ...) != sent.get(name, ...)):
        yield f"not the data that was sent: it differs in {', '.join(names)}"


if __name__ == "__main__":
    sys.exit(main())
