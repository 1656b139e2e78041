"""`ops dlq`: what could not be done, why, and how it is done after all.

SQS's own redrive (StartMessageMoveTask) takes only messages that SQS itself moved. Ours come from SNS and from the
functions too, so that each message is received, sent to its source queue, and deleted, in that order: done twice is no
harm.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.aws_session import OpsError
from scripts.operations.logs import last_reasons
from scripts.operations.selection import is_staged
from scripts.operations.stack import Stack
from scripts.operations.view import View, moment, undisturbed
from scripts.private_files import open_private
from shared.keys import is_recording
from shared.webhooks import read_events

HOLD_SECONDS = 900  # how long what is looked at stays hidden from others, should this process die
WAIT_SECONDS = 1  # for messages; an answer at once may overlook some
SOURCES = {
    "archive": ("ArchiveDlqUrl", "ArchiveQueueUrl"),
    "memory": ("MemoryDlqUrl", "MemoryQueueUrl"),
    "audio": ("AudioDlqUrl", "AudioQueueUrl"),
}
app = typer.Typer(help="Look into the dead-letter queues, and put right what is in them.", no_args_is_help=True)


@dataclass(frozen=True)
class Dead:
    """A message of a dead-letter queue, and what it says of itself."""

    stack: Stack
    queue: str
    message: dict[str, Any]
    logged: Callable[[], dict[str, str]]  # the reasons that the function's log knows, by delivery or call

    @property
    def sent_at(self) -> datetime:
        return _sent_at(self.message)

    @cached_property
    def body(self) -> str:
        """Our message; SNS wraps what it could not deliver, unless delivery is raw."""
        content = _object(self.message["Body"])
        return str(content["Message"]) if content.get("Type") == "Notification" else str(self.message["Body"])

    @cached_property
    def content(self) -> dict[str, Any]:
        return _object(self.body)

    @property
    def delivery(self) -> str:
        """What the message is about: a delivery, a call, or else the message itself."""
        content = self.content
        return str(content.get("delivery_id") or content.get("conversation_id") or self.message["MessageId"])

    @cached_property
    def calls(self) -> list[str]:
        """The ids of its calls. A claim check names none: they are in its staged body."""
        if "conversation_id" in self.content:
            return [str(self.content["conversation_id"])]
        key = str(self.content.get("staged_key"))
        if not is_staged(key):
            return []
        if is_recording(key):
            named = (self.stack.metadata(key) or {}).get("conversation_id")
            return [named] if named else []
        staged = self.stack.bucket.read(key)
        return _calls(staged[0]) if staged else []

    @cached_property
    def fault(self) -> tuple[str, str]:
        """Step and error: as the function or SNS attached them, else as the function logged them."""
        attributes = self.message.get("MessageAttributes", {})
        attached = {name: str(value.get("StringValue", "")) for name, value in attributes.items()}
        if "error" in attached:
            return attached.get("step", "-"), attached["error"]
        if by_sns := attached.get("ErrorMessage") or attached.get("ErrorCode"):
            return "delivery by SNS", by_sns
        if self.delivery in self.logged():
            return "retried in vain", self.logged()[self.delivery]
        if self.is_done:
            return "done meanwhile", "The work is done, and the message left over: redriving it changes nothing."
        return "retried in vain", "The function's log does not say why: it was killed, or the log is gone."

    @property
    def is_done(self) -> bool:
        """Whether a claim check's staged body is finished by now."""
        key = str(self.content.get("staged_key") or "")
        return is_staged(key) and self.stack.bucket.is_archived(key)


class Hold:
    """All messages of a queue, hidden from others; those that are still there at `release` come back at once."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs, self._url = sqs, url
        self._held: dict[str, dict[str, Any]] = {}

    @property
    def messages(self) -> list[dict[str, Any]]:
        return list(self._held.values())

    def receive(self) -> bool:
        """A queue that is not empty may say once that it is; one that fills all the time is left at half the hold.

        Says whether it was seen to its end.
        """
        silent, end = 0, time.monotonic() + HOLD_SECONDS / 2
        while silent < 2 and time.monotonic() < end:
            with undisturbed():
                answer = self._sqs.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=10, VisibilityTimeout=HOLD_SECONDS,
                    WaitTimeSeconds=WAIT_SECONDS, AttributeNames=["All"], MessageAttributeNames=["All"],
                )  # fmt: skip
                known = len(self._held)
                self._held |= {each["MessageId"]: each for each in answer.get("Messages", [])}
            silent = 0 if len(self._held) > known else silent + 1
        return silent >= 2

    def delete(self, message: dict[str, Any]) -> None:
        self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        del self._held[message["MessageId"]]

    def release(self) -> None:
        """SQS answers for each message apart: one whose hold is over is back already."""
        handles = [message["ReceiptHandle"] for message in self.messages]
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(handles[start : start + 10])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


class DeadLetterQueue:
    """A dead-letter queue and the queue that its messages came from."""

    def __init__(self, stack: Stack, name: str) -> None:
        if name not in SOURCES:
            raise OpsError(f"There is no queue {name!r}: choose one of {', '.join(SOURCES)}.")
        no_queue = "The stack has no audio queue: deploy it with the parameter ElevenLabsApiKey."
        self.stack, self.name, self._sqs = stack, name, stack.client("sqs")
        self._dead, self._source = (stack.output(each, no_queue if name == "audio" else "") for each in SOURCES[name])
        self._hold = Hold(self._sqs, self._dead)

    @contextmanager
    def held(self, view: View) -> Iterator[list[Dead]]:
        """All its messages, hidden from others meanwhile; those that are still there afterwards come back at once."""
        try:
            with view.progress.status(f"Looking into the {self.name} queue ..."):
                self._hold.receive()
            messages = self._hold.messages
            since = min(map(_sent_at, messages), default=datetime.now(timezone.utc)) - timedelta(days=1)
            logged = cache(partial(last_reasons, self.stack, self.name, since))
            yield [Dead(self.stack, self.name, message, logged) for message in messages]
        finally:
            with undisturbed():
                self._hold.release()

    def redrive(self, dead: Dead) -> None:
        self._sqs.send_message(QueueUrl=self._source, MessageBody=dead.body, DelaySeconds=0)
        self.delete(dead)

    def delete(self, dead: Dead) -> None:
        self._hold.delete(dead.message)


Queue = Annotated[str, typer.Argument(help="archive, memory or audio.")]
ErrorText = Annotated[str, typer.Option(help="Only messages whose step or error holds this text.")]
CallId = Annotated[str, typer.Option(help="Only messages about this conversation.")]
_TIME = "2026-11-22, 2026-11-22T10:00, or 36h for hours ago."
Since = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="TIME", help=f"Only what was sent since then: {_TIME}")
]
Until = Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Only what was sent before then.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only show what would be done.")]


@dataclass(frozen=True)
class Selection:
    """Which messages a command is about; all, if nothing is chosen."""

    error: str = ""
    conversation: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __call__(self, dead: Dead) -> bool:
        return (
            (self.since is None or dead.sent_at >= self.since)
            and (self.until is None or dead.sent_at < self.until)
            and (not self.conversation or self.conversation in dead.calls)
            and (not self.error or self.error.lower() in ": ".join(dead.fault).lower())
        )


@app.command("list")
def list_queues(context: typer.Context) -> int:
    """Show each dead-letter queue: how many messages, and why they are there.

    Exit code 1 if there is any. Example: ops dlq list
    """
    view: View = context.obj
    rows = []
    for name in SOURCES:
        if SOURCES[name][0] in view.stack.outputs:
            queue = DeadLetterQueue(view.stack, name)
            with queue.held(view) as held, view.progress.status("Asking for the reasons ..."):
                rows += [{"queue": name} | explain(group) for group in grouped(held, lambda dead: dead.fault)]
    columns = {"queue": "Queue", "messages": "Messages", "step": "Step", "error": "Error", "oldest": "Oldest"}
    view.table(
        rows, columns, "Dead-letter queues", "ops dlq show QUEUE" if rows else "", empty="All of them are empty."
    )
    return 1 if rows else 0


@app.command()
def show(
    context: typer.Context, queue: Queue, error: ErrorText = "", conversation: CallId = "",
    since: Since = None, until: Until = None,
) -> int:  # fmt: skip
    """Show what is in a dead-letter queue, grouped by delivery: which call, which step, the error, how often.

    Nothing is consumed: what is looked at is back in the queue at once. Example: ops dlq show archive
    """
    view: View = context.obj
    dead_letters = DeadLetterQueue(view.stack, queue)
    with chosen_from(dead_letters, view, Selection(error, conversation, since, until)) as (_, rows, _):
        advice = f"heal the cause, then: ops dlq redrive {queue} --yes" if rows else ""
        view.table(rows, COLUMNS, f"Dead letters of the {queue} queue", advice, empty="No message.")
    return 0


@app.command()
def redrive(
    context: typer.Context, queue: Queue, error: ErrorText = "", conversation: CallId = "",
    since: Since = None, until: Until = None,
    per_second: Annotated[float, typer.Option(min=0.1, help="Messages in a second, at most.")] = 10, yes: Yes = False,
) -> int:  # fmt: skip
    """Send messages back to the queue that they came from, once the cause is healed.

    Each step may run twice without harm, so that an interrupted redrive is simply run again.

    Example: ops dlq redrive memory --error 401 --yes
    """
    view: View = context.obj
    dead_letters = DeadLetterQueue(view.stack, queue)
    with chosen_from(dead_letters, view, Selection(error, conversation, since, until)) as (chosen, rows, total):
        if yes:
            view.each(chosen, dead_letters.redrive, per_second, "Redriving")
    done = f"{len(chosen)} of {total} messages {'redriven' if yes else 'would be redriven'}"
    advice = "ops status" if yes else "the same command with --yes"
    view.table(rows, COLUMNS, done, advice if chosen else "", empty="No message to redrive.")
    return 0


@app.command()
def drop(
    context: typer.Context, queue: Queue, error: ErrorText = "", conversation: CallId = "",
    since: Since = None, until: Until = None,
    save: Annotated[Path | None, typer.Option(help="File for what is dropped, a JSON document a line.")] = None,
    yes: Yes = False,
) -> int:  # fmt: skip
    """Delete messages for good, after they were saved to a file that only you may read.

    Staged bodies stay. A saved line's "Body" can be sent to the source queue at any time.

    Example: ops dlq drop archive --error "not JSON" --yes
    """
    view: View = context.obj
    dead_letters = DeadLetterQueue(view.stack, queue)
    with chosen_from(dead_letters, view, Selection(error, conversation, since, until)) as (chosen, rows, total):
        if yes and chosen:
            path = save or Path(f"dropped-{queue}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.jsonl")
            save_all(chosen, path)
            view.progress.print(f"Saved {len(chosen)} messages to {path}")
            view.each(chosen, dead_letters.delete, 100, "Dropping")
    done = f"{len(chosen)} of {total} messages {'dropped' if yes else 'would be dropped'}"
    view.table(
        rows, COLUMNS, done, "" if yes or not chosen else "the same command with --yes", empty="No message to drop."
    )
    return 0


COLUMNS = {"delivery": "Delivery", "calls": "Calls", "step": "Step", "error": "Error", "messages": "Messages",
           "receives": "Receives", "oldest": "Sent"}  # fmt: skip


@contextmanager
def chosen_from(
    queue: DeadLetterQueue, view: View, selection: Selection
) -> Iterator[tuple[list[Dead], list[dict[str, Any]], int]]:
    """The chosen messages, held until the end of the block, a row for each delivery, and how many are in the queue."""
    with queue.held(view) as held:
        with view.progress.status("Asking for the reasons ..."):
            chosen = [dead for dead in held if selection(dead)]
            rows = [
                {"delivery": group[0].delivery, "calls": sorted({call for dead in group for call in dead.calls})}
                | explain(group)
                for group in grouped(chosen, lambda dead: dead.delivery)
            ]
        yield chosen, rows, len(held)


def grouped(messages: list[Dead], key: Callable[[Dead], Any]) -> list[list[Dead]]:
    """The largest group first; in each the oldest message first."""
    groups: dict[Any, list[Dead]] = {}
    for dead in sorted(messages, key=lambda dead: dead.sent_at):
        groups.setdefault(key(dead), []).append(dead)
    return sorted(groups.values(), key=len, reverse=True)


def explain(group: list[Dead]) -> dict[str, Any]:
    """What is wrong with the messages of a group, by the last of them."""
    step, error = group[-1].fault
    receives = max(int(dead.message["Attributes"]["ApproximateReceiveCount"]) for dead in group)
    return {"step": step, "error": error, "messages": len(group), "receives": receives, "oldest": group[0].sent_at}


def save_all(chosen: list[Dead], path: Path) -> None:
    """Write the messages and see them on the disk. Raises OpsError; an existing file is not overwritten."""
    try:
        with open_private(path, anew=True) as file:
            file.writelines(
                f"{json.dumps(dead.message | {'Body': dead.body, 'Queue': dead.queue})}\n" for dead in chosen
            )
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OpsError(f"Nothing was dropped: {path} could not be written ({error.strerror}).") from None


def _sent_at(message: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, timezone.utc)


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _calls(body: bytes) -> list[str]:
    """The calls in a staged body, as far as it can be read."""
    return list(dict.fromkeys(event.conversation_id for event in read_events(body) if event.conversation_id))
