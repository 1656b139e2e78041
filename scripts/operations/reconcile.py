"""`ops reconcile` and `ops backfill`: fetch what webhooks did not deliver."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import chain
from typing import Annotated, Any

import typer
from botocore.config import Config

from reconciler.audio import awaits_audio, ended_at, find_missing
from reconciler.calls import CallsPass, Report
from reconciler.elevenlabs import ElevenLabs
from reconciler.staging import Staging
from scripts.aws_session import OpsError
from scripts.operations.view import TIMES, View, parse_time, several
from shared.call import Call
from shared.messages import Announcement
from shared.selection import read_selection
from shared.times import utc

NO_KEY = "The stack has no API key of ElevenLabs, so it fetches nothing. Deploy it with the parameter ElevenLabsApiKey."
LEFT = {"failed", "given_up", "unavailable", "no_time"}  # outcomes of calls that are still missing
# A run takes up to 15 minutes. A second attempt of the request would start a second run.
_ONCE = Config(read_timeout=910, connect_timeout=5, tcp_keepalive=True, retries={"total_max_attempts": 1})

_TIME = typer.Option(parser=parse_time, metavar="TIME", help=f"{TIMES}.")


def reconcile(context: typer.Context) -> int:
    """Start the hourly run of the reconciler now.

    It sends unfinished payloads to the archiver again. With ElevenLabsApiKey, it also fetches the calls and recordings
    that are missing in the archive. This takes up to 15 minutes.

    Exit code 1 if calls are still missing, or the run failed.

    Example: ops reconcile
    """
    view: View = context.obj
    function = view.stack.output("ReconcilerFunctionName")
    with view.progress.status("The run has started. It ends within 15 minutes ..."):
        answer = view.stack.client("lambda", _ONCE).invoke(FunctionName=function, Payload=b"{}")
    if "FunctionError" in answer:
        raise OpsError(f"The run failed. The log of the function {function} says why.", code=1)
    report = json.loads(answer["Payload"].read())
    for internal in ("settled_until", "reached"):
        report.pop(internal, None)
    advice = "" if "ElevenLabsSecretArn" in view.stack.outputs else NO_KEY
    view.show(without_nesting(report), "One hourly run", report.get("error") or advice)
    return 1 if "error" in report or LEFT & set(report.get("outcomes", {})) else 0


def backfill(
    context: typer.Context,
    since: Annotated[datetime, _TIME],
    until: Annotated[datetime | None, _TIME] = None,
    agent: Annotated[str | None, typer.Option(help="Only calls of this agent, by its id.")] = None,
    per_second: Annotated[
        float, typer.Option(min=0.1, max=50, help="At most this many requests to ElevenLabs in a second.")
    ] = 5,
    settle_minutes: Annotated[
        int, typer.Option(min=0, metavar="MINUTES", help="Ignore calls that ended or were fetched in the last MINUTES.")
    ] = 60,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without --yes, only show what is missing.")] = False,
) -> int:
    """Fetch the calls and recordings of a past time range that are missing in the archive.

    The range ends now, or at --until. Without --yes, the command only shows how many are missing. If it is interrupted,
    run it again: it does not fetch again what is archived, or what was fetched in the last hour.

    Example: ops backfill --since 2026-11-01 --until 2026-11-08 --yes
    """
    view: View = context.obj
    until = until or datetime.now(timezone.utc)
    if since >= until:
        raise OpsError("--since must be earlier than --until.")
    host, key = view.stack.output("ElevenLabsApiHost", NO_KEY), view.stack.secret("ElevenLabsSecretArn", NO_KEY)
    api = ElevenLabs(host, key, per_second)
    try:
        return Gap(view, api, since, until, agent, timedelta(minutes=settle_minutes)).close(yes)
    finally:
        api.close()


@dataclass(frozen=True)
class Gap:
    """A past range of calls: what ElevenLabs has of it, and what the archive has."""

    view: View
    api: ElevenLabs
    since: datetime
    until: datetime
    agent: str | None
    settle: timedelta

    def close(self, yes: bool) -> int:
        """Show what is missing, and if `yes` fetch it; returns the exit code."""
        with self.view.progress.status("Comparing ElevenLabs' list with the archive ...") as status:
            found = self.compare(
                lambda report: status.update(f"Compared {several(report.listed, 'call', 'calls')} ..."), preview=True
            )
            no_audio = self.without_audio()
        missing = {"calls_listed": found.listed, "calls_missing": found.missing_calls, "audio_missing": len(no_audio)}
        if not (found.missing_calls or no_audio):
            self.view.show(missing, "What is missing", "Nothing is missing.")
        elif not yes:
            advice = "Nothing was done. To fetch what is missing, run the same command with --yes."
            self.view.show(missing, "What is missing", advice)
        else:
            return self.fill(missing, found, no_audio)
        return 0

    def fill(self, missing: dict[str, int], found: Report, no_audio: list[Call]) -> int:
        with self.view.bar() as bar:
            task = bar.add_task("Fetching", total=found.missing_calls + len(no_audio))
            self.ask_for(no_audio)
            bar.advance(task, len(no_audio))
            done = self.compare(
                lambda report: bar.update(task, completed=len(no_audio) + sum(report.outcomes.values())), preview=False
            )
        self.view.show(missing | done.outcomes | {"audio_asked_for": len(no_audio)}, "What was done")
        return 1 if LEFT & set(done.outcomes) else 0

    def compare(self, on_page: Callable[[Report], None], *, preview: bool) -> Report:
        stack = self.view.stack
        staging = Staging(stack.bucket, stack.client("sqs"), stack.output("ArchiveQueueUrl"))
        calls = CallsPass(
            self.api, stack.records, staging, lambda: datetime.now(timezone.utc), self.settle,
            read_selection(stack.outputs.get("AgentIds", ""), int(stack.outputs.get("MinimumCallSeconds", 0))),
            preview=preview, retry_all=True,
        )  # fmt: skip
        return calls.run(self.since, self.until, self.agent, on_page=on_page)

    def without_audio(self) -> list[Call]:
        """Archived calls of the range whose recording is missing or was given up; none if the stack keeps no audio."""
        if self.view.stack.outputs.get("KeepAudio") == "false":
            return []
        records, settled = self.view.stack.records, datetime.now(timezone.utc) - self.settle
        given_up = records.find_all(lambda listed: listed["audio"] == "unavailable")
        missing = chain(
            find_missing(records, settled), (call for call in given_up if awaits_audio(call, "unavailable"))
        )
        mine = (call for call in missing if self.agent in (None, call.agent_id))
        return [call for call in mine if self.since <= ended_at(call) <= self.until]

    def ask_for(self, no_audio: list[Call]) -> None:
        sqs, queue = self.view.stack.client("sqs"), self.view.stack.output("AudioQueueUrl", NO_KEY)
        for call in no_audio:
            now = utc(datetime.now(timezone.utc))
            if asked := self.view.stack.records.note_asked_again(call.conversation_id, now):
                sqs.send_message(QueueUrl=queue, MessageBody=Announcement.of(asked).to_json(), DelaySeconds=0)


def without_nesting(report: dict[str, Any]) -> dict[str, Any]:
    """The report of a run without nesting."""
    outcomes: dict[str, Any] = report.get("outcomes", {})
    shown = {name: value for name, value in report.items() if name not in ("outcomes", "error")}
    return shown | outcomes | ({"webhook": ", ".join(report["webhook"]) or "well"} if "webhook" in report else {})
