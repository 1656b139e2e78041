"""`ops send`: post a webhook that is signed as ElevenLabs signs its webhooks."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from scripts.aws_session import OpsError
from scripts.operations.view import View
from scripts.webhooks import send as post

MEANINGS = {
    200: "stored and queued: the archiver takes it from here",
    400: "refused, nothing is stored: it has no body",
    401: "refused, nothing is stored: the signature is too old or from the future (see --age and this machine's "
    "clock), or the secret has just been changed",
    413: "refused, nothing is stored: a body may have at most 6 MB",
    429: "refused, nothing is stored: the endpoint gets too many webhooks. Send it again later",
    503: "not accepted: ingest could not reach S3, SQS or the secret. Send it again",
}
NO_ANSWER_OF_OURS = "this is not an answer of ingest. Look at its log, and at the access log of the API"


def send(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file with the payload. -: read it from stdin.")],
    age: Annotated[
        int, typer.Option(metavar="SECONDS", help="How old the signature is. A negative number: a time in the future.")
    ] = 0,
) -> int:
    """Sign a payload with the stack's secret, and send it to the stack's endpoint.

    If you send the same bytes twice, they are archived once. Exit code 1 if the answer is not 200.

    Example: ops --local send tests/fixtures/01_transcription_minimal.json
    """
    view: View = context.obj
    body = read_payload(file)
    if not is_json(body):
        view.progress.print(
            "This is not JSON. It is sent nevertheless: ingest stores it, and its message goes to ArchiveDlq."
        )
    url, secret = view.stack.output("PostCallUrl"), view.stack.secret("WebhookSecretArn")
    with view.progress.status("Sending ..."):
        response = deliver(url, secret, body, int(time.time()) - age)
    status, answer = response.status_code, read_answer(response)
    view.show(
        {
            "http_status": status,
            "delivery_id": answer.get("delivery_id"),
            "size_bytes": len(body),
            "meaning": MEANINGS.get(status, NO_ANSWER_OF_OURS),
        },
        f"Sent to {url}",
    )
    return 0 if status == 200 else 1


def read_payload(file: Path) -> bytes:
    """The bytes exactly as they are, because they are signed. Raises OpsError."""
    try:
        body = typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    except FileNotFoundError:
        raise OpsError(f"There is no file {file}.") from None
    except OSError as error:
        raise OpsError(f"{file} cannot be read: {error.strerror}.") from None
    if not body:
        raise OpsError(f"{'stdin' if str(file) == '-' else file} is empty: there is nothing to send.")
    return body


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def deliver(url: str, secret: str, body: bytes, timestamp: int) -> httpx.Response:
    """Raises OpsError when there is no answer."""
    try:
        return post(url, secret, body, timestamp, is_test=True)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        text = f"The endpoint {url} cannot be reached: {error}."
    except httpx.TransportError as error:
        text = f"No answer from {url}: {error}. The webhook may be stored nevertheless. To send it again does no harm."
    raise OpsError(text, code=1)


def read_answer(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
