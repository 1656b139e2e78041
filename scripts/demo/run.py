"""`make demo`: seven scenes from the life of the stack, on the embedded AWS, each of them checked."""

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
    """Exit code: 0 if all is as it should be, 1 if not, 130 after Ctrl-C."""
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
    """Play the scenes, show what came of them, and return what is not as it should be."""
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
    """Of a stack that may fetch from ElevenLabs, and does not wait long for webhooks before it does."""
    waits = {"AudioDelaySeconds": "1", "ReconcileAfterMinutes": "0"}
    return {"ElevenLabsApiKey": api.key, "ElevenLabsApiHost": api.url} | waits


def play(console: Console, stack: Stack, calls: SampleCalls) -> Outcome:
    """The scenes one after the other; each is done before the next begins."""
    answers = step(console, "Sent four calls, one without its long recording", lambda _: stack.post(new_calls(calls)))
    step(console, "Archived and remembered them, and fetched the recording", stack.drain)
    before = stack.look(calls[:4])
    answers += step(console, "Sent the first call again, and a forgery", lambda _: stack.post(repeats(calls.harbour)))
    step(console, "Handled what came of that", stack.drain)
    reconciled = step(console, "Ran the hourly pass over ElevenLabs' list of calls", lambda _: stack.reconcile())
    step(console, "Archived and remembered the one that never came", stack.drain)
    after = step(console, "Looked at all that is kept", lambda _: stack.look(calls))
    found = step(console, "Asked Mem0", lambda _: stack.ask(questions(calls)))
    return Outcome(answers, before, after, reconciled, found)


def step(console: Console, done: str, work: Callable[[Callable[[str], None]], Result]) -> Result:
    """The result of `work`, which may say how far it is: seen in a terminal only; the line after it is always there."""
    started = time.monotonic()
    with console.status(f"{done} ...") as status:
        result = work(lambda progress: status.update(f"{done} ... {progress}"))
    console.print(f"[green]✓[/] {done} [dim]({time.monotonic() - started:.1f} s)[/]")
    return result


if __name__ == "__main__":
    sys.exit(main())
