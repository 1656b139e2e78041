"""`ops canary`: send a test call, and see whether it gets through."""

from contextlib import suppress
from typing import Annotated, Any

import typer

from canary.canary import Canary, CanaryError, Step, agent_of
from scripts.aws_session import OpsError
from scripts.operations.view import INTERRUPTED, View, delay_ctrl_c

COLUMNS = {"step": "Step", "seconds": "Seconds", "means": "What it means"}
MEANINGS = {
    "received": "ingest answered both webhooks with 200: stored and queued",
    "archived": "JSON and MP3 are in the bucket, and the record says so",
    "remembered": "the ledger has a receipt of both memories",
    "deleted": "memories, objects, payloads and record are deleted; a tombstone remains",
}


def canary(
    context: typer.Context,
    patience: Annotated[float, typer.Option(min=1, help="How many seconds each step may take.")] = 120,
) -> int:
    """Send a test call through archive and memory, time each step, and delete the call again.

    The call has no phone number, and its id begins with canary_. If you press Ctrl-C, the command deletes the call and
    then ends.

    Exit code 1 if a step fails or takes too long. Example: ops canary
    """
    view: View = context.obj
    stack, rows = view.stack, list[dict[str, Any]]()
    test_call = Canary(
        stack.output("PostCallUrl"), stack.secret("WebhookSecretArn"), stack.bucket, stack.records,
        stack.client("sqs"), stack.output("MemoryQueueUrl") if "MemorySecretArn" in stack.outputs else "", patience,
        agent_of(stack.outputs.get("AgentIds", "")), max(1, int(stack.output("MinimumCallSeconds"))),
        stack.output("KeepAudio") == "true",
    )  # fmt: skip
    fault = ""
    with view.progress.status("Sending a call ...") as status:
        try:
            for step in test_call.run():
                rows.append(row(step))
                status.update(f"Sent a call: {step.name} ...")
        except CanaryError as error:
            fault = str(error)
        except KeyboardInterrupt:
            status.update("Interrupted: deleting the test call ...")
            raise OpsError(clean_up(view, test_call), INTERRUPTED) from None
    total = sum(each["seconds"] for each in rows)
    title = fault or f"The canary passed in {total:.1f} s"
    view.table(rows, COLUMNS, title, "ops status" if fault else "", empty=title)
    return 1 if fault else 0


def clean_up(view: View, test_call: Canary) -> str:
    """Delete the test call, and say whether it is deleted. Ctrl-C does not stop this; pressed twice, it does."""
    deleted = False
    with suppress(KeyboardInterrupt, CanaryError), delay_ctrl_c():
        test_call.clean_up()
        deleted = True
    if deleted:
        return "Interrupted. The test call is deleted again."
    command = view.command(f"erase --conversation {test_call.conversation_id} --yes")
    return f"Interrupted. The test call is not deleted completely. To delete the rest: {command}"


def row(step: Step) -> dict[str, Any]:
    return {"step": step.name, "seconds": step.seconds, "means": MEANINGS[step.name]}
