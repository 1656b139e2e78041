"""`ops canary`: whether a call gets through, now."""

from typing import Annotated, Any

import typer

from canary.canary import Canary, CanaryError, Step, agent_of
from scripts.operations.view import View

COLUMNS = {"step": "Step", "seconds": "Seconds", "means": "What it means"}
MEANINGS = {
    "received": "ingest answered both webhooks with 200: stored and queued",
    "archived": "JSON and MP3 are in the bucket, and the record says so",
    "remembered": "the ledger has a receipt of both memories",
    "deleted": "memories, objects, staged bodies and record are deleted; a tombstone remains",
}


def canary(
    context: typer.Context,
    patience: Annotated[float, typer.Option(min=1, help="Seconds that a step may take.")] = 120,
) -> int:
    """Send a test call through archive and memory, time each step, and take it away again.

    It has no phone number, and an id that begins with canary_. Exit code 1 if it gets stuck.
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
    total = sum(each["seconds"] for each in rows)
    title = fault or f"The canary passed in {total:.1f} s"
    view.table(rows, COLUMNS, title, "ops status: what is wrong" if fault else "", empty=title)
    return 1 if fault else 0


def row(step: Step) -> dict[str, Any]:
    return {"step": step.name, "seconds": step.seconds, "means": MEANINGS[step.name]}
