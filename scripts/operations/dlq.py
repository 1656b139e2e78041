"""`ops dlq`: look into the dead-letter queues, and redrive or drop what is in them."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.aws_session import OpsError
from scripts.operations.dead_letter_advice import advise
from scripts.operations.dead_letters import QUEUES, DeadLetter, DeadLetterQueue
from scripts.operations.view import TIMES, WITH_YES, View, parse_time, several
from scripts.private_files import open_private

app = typer.Typer(help="Show, redrive or drop the messages in the dead-letter queues.", no_args_is_help=True)

Queue = Annotated[str, typer.Argument(help="archive, memory, audio, transcribe or text.")]
ErrorText = Annotated[
    str, typer.Option(help="Only messages whose step and error contain this text. They are compared as 'step: error'.")
]
CallId = Annotated[str, typer.Option(help="Only messages about this conversation.")]
Since = Annotated[
    datetime | None, typer.Option(parser=parse_time, metavar="TIME", help=f"Only messages sent since then: {TIMES}.")
]
Until = Annotated[
    datetime | None, typer.Option(parser=parse_time, metavar="TIME", help="Only messages sent before then.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it. Without --yes, only show what would be done.")]
COLUMNS = {"delivery": "Delivery", "calls": "Calls", "step": "Step", "error": "Error", "messages": "Messages",
           "receives": "Receives", "oldest": "Sent", "staged_key": "Payload"}  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Which messages a command is about; without a choice, all of them."""

    error: str = ""
    conversation: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def __call__(self, letter: DeadLetter) -> bool:
        return (
            (self.since is None or letter.sent_at >= self.since)
            and (self.until is None or letter.sent_at < self.until)
            and (not self.conversation or self.conversation in letter.calls)
            and (not self.error or self.error.lower() in ": ".join(letter.fault).lower())
        )


@app.command("list")
def list_queues(context: typer.Context) -> int:
    """Show how many messages are in each dead-letter queue, and why they are there.

    Exit code 1 if there is a message. Example: ops dlq list
    """
    view: View = context.obj
    rows = []
    for name in QUEUES:
        if QUEUES[name][0] in view.stack.outputs:
            queue = DeadLetterQueue(view.stack, name)
            with queue.letters(view) as letters, view.progress.status("Reading the reasons ..."):
                rows += [{"queue": name} | explain(group) for group in grouped(letters, lambda letter: letter.fault)]
    columns = {"queue": "Queue", "messages": "Messages", "step": "Step", "error": "Error", "oldest": "Oldest"}
    filled = dict.fromkeys(row["queue"] for row in rows)
    advice = "\n".join(f"Look at the messages: ops dlq show {name}" for name in filled)
    view.table(rows, columns, "Dead-letter queues", advice, empty="All queues are empty.")
    return 1 if rows else 0


@app.command()
def show(
    context: typer.Context, queue: Queue, error: ErrorText = "", conversation: CallId = "",
    since: Since = None, until: Until = None,
) -> int:  # fmt: skip
    """Show the messages of one dead-letter queue, a row for each delivery.

    A row has the calls, the step that failed, the error, and the number of attempts.

    The messages stay in the queue. Example: ops dlq show archive
    """
    view: View = context.obj
    letters = DeadLetterQueue(view.stack, queue)
    with chosen_from(letters, view, Selection(error, conversation, since, until)) as (chosen, rows, _):
        view.table(
            rows,
            columns_of(rows),
            f"Messages in the dead-letter queue {queue}",
            advise(view, queue, chosen),
            empty="This queue is empty, or no message fits the options.",
        )
    return 0


@app.command()
def redrive(
    context: typer.Context, queue: Queue, error: ErrorText = "", conversation: CallId = "",
    since: Since = None, until: Until = None,
    per_second: Annotated[float, typer.Option(min=0.1, help="At most this many messages in a second.")] = 10,
    yes: Yes = False,
) -> int:  # fmt: skip
    """Send messages back to the queue that they came from. Fix the cause first.

    If the command is interrupted, run it again. A message that is sent twice does no harm.

    Example: ops dlq redrive memory --error 401 --yes
    """
    view: View = context.obj
    letters = DeadLetterQueue(view.stack, queue)
    with chosen_from(letters, view, Selection(error, conversation, since, until)) as (chosen, rows, total):
        if yes:
            view.each(chosen, letters.redrive, per_second, "Redriving")
        helps = any(letter.cure == "redrive" for letter in chosen)
    messages = several(total, "message", "messages")
    done = f"{len(chosen)} of {messages} {'redriven' if yes else 'would be redriven'}"
    preview = WITH_YES if helps else advise(view, queue, chosen)
    view.table(
        rows,
        columns_of(rows),
        done,
        ("ops status" if yes else preview) if chosen else "",
        empty="No message to redrive.",
    )
    return 0


@app.command()
def drop(
    context: typer.Context, queue: Queue, error: ErrorText = "", conversation: CallId = "",
    since: Since = None, until: Until = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File for the messages. Default: dropped-QUEUE-TIME.jsonl.")
    ] = None,
    yes: Yes = False,
) -> int:  # fmt: skip
    """Save messages to a file that only you can read, then delete them from the queue.

    Their payloads stay in staging/. The hourly run does not send them again. `ops replay` sends them only with
    --dropped or --key. You can also send the "Body" of a line in the file to the source queue.

    Example: ops dlq drop archive --error "not JSON" --yes
    """
    view: View = context.obj
    letters = DeadLetterQueue(view.stack, queue)
    with chosen_from(letters, view, Selection(error, conversation, since, until)) as (chosen, rows, total):
        if yes and chosen:
            path = save or Path(f"dropped-{queue}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.jsonl")
            save_all(chosen, path)
            view.progress.print(f"Saved {several(len(chosen), 'message', 'messages')} to {path}")
            view.each(chosen, letters.drop, 100, "Dropping")
    messages = several(total, "message", "messages")
    done = f"{len(chosen)} of {messages} {'dropped' if yes else 'would be dropped'}"
    view.table(rows, columns_of(rows), done, "" if yes or not chosen else WITH_YES, empty="No message to drop.")
    return 0


@contextmanager
def chosen_from(
    queue: DeadLetterQueue, view: View, selection: Selection
) -> Iterator[tuple[list[DeadLetter], list[dict[str, Any]], int]]:
    """The chosen messages, a row for each delivery, and how many are in the queue. They are hidden in the block."""
    with queue.letters(view) as letters:
        with view.progress.status("Reading the reasons ..."):
            chosen = [letter for letter in letters if selection(letter)]
            rows = [
                {"delivery": group[0].delivery, "calls": sorted({call for letter in group for call in letter.calls})}
                | explain(group)
                | {"staged_key": group[0].staged_key}
                for group in grouped(chosen, lambda letter: letter.delivery)
            ]
        yield chosen, rows, len(letters)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The columns that people see. Only claim checks name a payload."""
    is_empty = not any(row["staged_key"] for row in rows)
    return {name: title for name, title in COLUMNS.items() if not (is_empty and name == "staged_key")}


def grouped(letters: list[DeadLetter], key: Callable[[DeadLetter], Any]) -> list[list[DeadLetter]]:
    """The largest group first; in each group the oldest message first."""
    groups: dict[Any, list[DeadLetter]] = {}
    for letter in sorted(letters, key=lambda letter: letter.sent_at):
        groups.setdefault(key(letter), []).append(letter)
    return sorted(groups.values(), key=len, reverse=True)


def explain(group: list[DeadLetter]) -> dict[str, Any]:
    """What is wrong with the messages of a group: the step and error of its newest message."""
    step, error = group[-1].fault
    receives = max(int(letter.message["Attributes"]["ApproximateReceiveCount"]) for letter in group)
    return {"step": step, "error": error, "messages": len(group), "receives": receives, "oldest": group[0].sent_at}


def save_all(chosen: list[DeadLetter], path: Path) -> None:
    """Write the messages to the disk. Raises OpsError; an existing file is not overwritten."""
    try:
        with open_private(path, must_be_new=True) as file:
            file.writelines(
                f"{json.dumps(letter.message | {'Body': letter.body, 'Queue': letter.queue})}\n" for letter in chosen
            )
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OpsError(f"Nothing was dropped: {path} could not be written ({error.strerror}).") from None
