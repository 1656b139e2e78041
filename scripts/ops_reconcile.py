"""`ops reconcile` and `ops backfill`: fetch what webhooks did not deliver."""

import json
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import typer
from botocore.config import Config

from reconciler.calls import CallsPass, Report, audio_sender
from reconciler.elevenlabs import ElevenLabs
from reconciler.staging import Staging
from scripts.ops_stack import OpsError, Stack
from scripts.ops_view import View, moment

NO_KEY = "The stack has no key of ElevenLabs' API, and fetches nothing: deploy it with the parameter ElevenLabsApiKey."
# A pass takes as long as a Lambda may; asked again, Lambda would begin a second one.
_ONCE = Config(read_timeout=910, connect_timeout=5, retries={"total_max_attempts": 1})

_TIME = typer.Option(parser=moment, metavar="TIME", help="2026-11-22, 2026-11-22T10:00, or 36h for hours ago.")


def reconcile(context: typer.Context) -> int:
    """Run one scheduled pass now: sweep staging, and fetch what ElevenLabs has and the archive has not.

    Example: ops --local reconcile
    """
    view: View = context.obj
    function = view.stack.output("ReconcilerFunctionName")
    with view.progress.status("The pass is under way; it ends within 15 minutes ..."):
        answer = view.stack.client("lambda", _ONCE).invoke(FunctionName=function, Payload=b"{}")
    if "FunctionError" in answer:
        raise OpsError(f"The pass failed. The log of the function {function} says why.", code=1)
    report = json.loads(answer["Payload"].read())
    advice = "" if "ElevenLabsSecretArn" in view.stack.outputs else NO_KEY
    view.show(flat(report), "One pass of the reconciler", report.get("error") or advice)
    return 1 if "error" in report else 0


def backfill(
    context: typer.Context,
    since: Annotated[datetime, _TIME],
    until: Annotated[datetime | None, _TIME] = None,
    agent: Annotated[str | None, typer.Option(help="Only calls of this agent, by its id.")] = None,
    per_second: Annotated[
        float, typer.Option(min=0.1, max=50, help="Requests to ElevenLabs in a second, at most.")
    ] = 5,
    settle_minutes: Annotated[int, typer.Option(min=0, help="Leave alone what ended or was fetched so lately.")] = 60,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what there is to do.")] = False,
) -> int:
    """Fetch the calls and recordings of a past range, up to now or --until, that the archive lacks.

    It shows how many there are; with --yes it fetches them. Interrupted, run it again: what is archived, or was fetched
    within the last hour, is not fetched again.

    Example: ops backfill --since 2026-11-01 --until 2026-11-08 --yes
    """
    view: View = context.obj
    until = until or datetime.now(timezone.utc)
    if since >= until:
        raise OpsError("There is nothing between --since and --until: the first must be the earlier one.")
    api = ElevenLabs(
        view.stack.output("ElevenLabsApiHost", NO_KEY), view.stack.secret("ElevenLabsSecretArn", NO_KEY), per_second
    )
    try:
        with view.progress.status("Comparing ElevenLabs' list with the archive ...") as status:
            found = pass_over(view.stack, api, settle_minutes, preview=True).run(
                since, until, agent, on_page=lambda report: status.update(f"Compared {report.listed} calls ...")
            )
        if not yes or not (found.missing_calls or found.missing_audio):
            view.show(summary(found), "What is missing", advice(found, yes))
            return 0
        done = fetch(view, api, found, since, until, agent, settle_minutes)
    finally:
        api.close()
    view.show(
        summary(done) | done.outcomes, "Backfill", "ops status shows when they are archived" if done.outcomes else ""
    )
    return 1 if done.outcomes.get("failed") or done.outcomes.get("given_up") else 0


def pass_over(stack: Stack, api: ElevenLabs, settle_minutes: int, *, preview: bool) -> CallsPass:
    sqs = stack.client("sqs")
    staging = Staging(stack.bucket, sqs, stack.output("ArchiveQueueUrl"))
    queue_audio = audio_sender(sqs, stack.output("AudioQueueUrl", NO_KEY))
    now, grace = datetime.now(timezone.utc), timedelta(minutes=settle_minutes)
    return CallsPass(api, stack.records, staging, queue_audio, now, grace, preview=preview)


def fetch(
    view: View, api: ElevenLabs, found: Report, since: datetime, until: datetime, agent: str | None, settle_minutes: int
) -> Report:
    with view.bar() as bar:
        task = bar.add_task("Fetching", total=found.missing_calls + found.missing_audio)
        return pass_over(view.stack, api, settle_minutes, preview=False).run(
            since, until, agent,
            on_page=lambda report: bar.update(task, completed=sum(report.outcomes.values()) + report.audio_queued),
        )  # fmt: skip


def summary(report: Report) -> dict[str, Any]:
    return {
        "calls_listed": report.listed,
        "calls_missing": report.missing_calls,
        "audio_missing": report.missing_audio,
        "audio_asked_for": report.audio_queued,
    }


def advice(found: Report, yes: bool) -> str:
    if not (found.missing_calls or found.missing_audio):
        return "Nothing is missing."
    return "" if yes else "Nothing was done. The same command with --yes fetches what is missing."


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """A pass's report without nesting, for people to read."""
    outcomes: dict[str, Any] = report.get("outcomes", {})
    shown = {name: value for name, value in report.items() if name not in ("outcomes", "error")}
    return shown | outcomes | ({"webhook": ", ".join(report["webhook"]) or "well"} if "webhook" in report else {})
