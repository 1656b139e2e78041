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
    400: "refused, nothing is stored: the endpoint saw no body in it",
    401: "refused, nothing is stored: the signature is too old or too early (see --age and this machine's clock), "
    "or the secret was replaced a moment ago",
    413: "refused, nothing is stored: a body may have at most 6 MB",
    429: "refused, nothing is stored: the endpoint gets more webhooks than its limit allows; send it again later",
    503: "not acknowledged: ingest could not reach S3, SQS or the secret; send it again",
}
NO_ANSWER_OF_OURS = "not an answer of ingest: look at its log, and at the access log of the API"


def send(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file with the webhook's body, or - for stdin.")],
    age: Annotated[
        int, typer.Option(metavar="SECONDS", help="The age of the signature. A negative number signs for a later time.")
    ] = 0,
) -> int:
    """Sign a payload with the stack's secret, and post it to the stack's endpoint.

    The same bytes are the same delivery: sent twice, they are archived once. Exit code 1 unless the answer is 200.

    Example: ops --local send tests/fixtures/01_transcription_minimal.json
    """
    view: View = context.obj
    body = read_payload(file)
    if not is_json(body):
        view.progress.print("This is not JSON. It is sent all the same: ingest stores it, and it ends in ArchiveDlq.")
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
        text = f"No answer from {url}: {error}. The webhook may be stored all the same; sent again it does no harm."
    raise OpsError(text, code=1)


def read_answer(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
