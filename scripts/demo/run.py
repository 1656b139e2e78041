"""`make demo`: seven scenes with the stack on the embedded AWS. Each one is checked."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from scripts.aws_session import STACK_NAME
from scripts.demo import checks, report
from scripts.demo.calls import SampleCalls, sample_calls
from scripts.demo.scenes import Outcome, new_calls, questions, repeats
from scripts.demo.stack import Stack
from scripts.embedded.aws import ROOT, EmbeddedAws, EmbeddedAwsError
from scripts.embedded.deployment import deploy
from scripts.embedded.elevenlabs import ElevenLabs
from scripts.embedded.local import stop_on_signals

LOG = ROOT / ".local" / "demo.log"
Result = TypeVar("Result")


def main() -> int:
    """Exit code: 0 if everything is correct, 1 if not, 130 after Ctrl-C."""
    stop_on_signals()
    console, started = report.open_console(), time.monotonic()
    try:
        failures = walk(console)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (EmbeddedAwsError, httpx.HTTPError, ClientError, BotoCoreError) as error:
        failures = [f"{error} (see {LOG.relative_to(ROOT)})"]
    report.conclude(console, failures, time.monotonic() - started)
    return 1 if failures else 0


def walk(console: Console) -> list[str]:
    """Play the scenes, show the results, and return what is wrong."""
    calls = sample_calls(int(time.time()))
    LOG.parent.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)
    with ElevenLabs() as api, EmbeddedAws(log=LOG) as aws:
        for call in (calls.charter, calls.lighthouse):
            api.add(call.data, call.recording)
        deployed = "Deployed template.yaml to the embedded AWS"
        outputs = step(console, deployed, lambda _: deploy(aws, STACK_NAME, parameters(api)))
        outcome = play(console, Stack(aws, STACK_NAME, outputs), calls)
    report.show(console, outputs["BucketName"], calls, outcome)
    return checks.check(calls, outcome)


def parameters(api: ElevenLabs) -> dict[str, str]:
    """For a stack that fetches from ElevenLabs, and waits only a second for webhooks first."""
    waits = {"AudioDelaySeconds": "1", "ReconcileAfterMinutes": "0"}
    return {"ElevenLabsApiKey": api.key, "ElevenLabsApiHost": api.url} | waits


def play(console: Console, stack: Stack, calls: SampleCalls) -> Outcome:
    """Play the scenes one after the other. Each is finished before the next begins."""
    answers = step(console, "Sent four calls, one without its long recording", lambda _: stack.post(new_calls(calls)))
    step(console, "Archived and remembered them, and fetched the recording", stack.drain)
    before = stack.look(calls[:4])
    answers += step(
        console, "Sent the first call again, and a forged webhook", lambda _: stack.post(repeats(calls.harbour))
    )
    step(console, "Processed these webhooks", stack.drain)
    reconciled = step(console, "Compared ElevenLabs' list of calls with the archive", lambda _: stack.reconcile())
    step(console, "Archived and remembered the missing call", stack.drain)
    after = step(console, "Read everything that is stored", lambda _: stack.look(calls))
    found = step(console, "Searched Mem0", lambda _: stack.ask(questions(calls)))
    return Outcome(answers, before, after, reconciled, found)


def step(console: Console, done: str, work: Callable[[Callable[[str], None]], Result]) -> Result:
    """Return the result of `work`. Its progress is shown in a terminal only; the line at the end is always printed."""
    started = time.monotonic()
    with console.status(f"{done} ...") as status:
        result = work(lambda progress: status.update(f"{done} ... {progress}"))
    console.print(f"[green]✓[/] {done} [dim]({time.monotonic() - started:.1f} s)[/]")
    return result


if __name__ == "__main__":
    sys.exit(main())
