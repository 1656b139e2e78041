"""`make demo`: five scenes from the life of the stack, on the embedded AWS, each of them checked."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from scripts import demo_checks, demo_report
from scripts.demo_scenes import new_calls, questions, repeats
from scripts.demo_stack import Stack
from scripts.deployment import ROOT, deploy
from scripts.embedded import EmbeddedAws, EmbeddedAwsError
from scripts.local import STACK_NAME, stop_on_signals
from scripts.sample_calls import harbour_call, long_call, web_call

LOG = ROOT / ".local" / "demo.log"
Result = TypeVar("Result")


def main() -> int:
    """Exit code: 0 if all is as it should be, 1 if not, 130 after Ctrl-C."""
    stop_on_signals()
    console, started = demo_report.open_console(), time.monotonic()
    try:
        failures = walk(console)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (EmbeddedAwsError, httpx.HTTPError, ClientError, BotoCoreError) as error:
        failures = [f"{error} (see {LOG.relative_to(ROOT)})"]
    demo_report.conclude(console, failures, time.monotonic() - started)
    return 1 if failures else 0


def walk(console: Console) -> list[str]:
    """Play the scenes, show what came of them, and return what is not as it should be."""
    calls = [harbour_call(), long_call(), web_call()]
    LOG.parent.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)
    with EmbeddedAws(log=LOG) as aws:
        outputs = step(console, "Deployed template.yaml to the embedded AWS", lambda _: deploy(aws, STACK_NAME))
        stack = Stack(aws, STACK_NAME, outputs)
        answers = step(console, "Sent three calls", lambda _: stack.post(new_calls(*calls)))
        step(console, "Archived and remembered them", stack.drain)
        before = stack.look(calls)
        answers += step(console, "Sent the first call again, and a forgery", lambda _: stack.post(repeats(calls[0])))
        step(console, "Handled what came of that", stack.drain)
        after = step(console, "Looked at all that is kept", lambda _: stack.look(calls))
        found = step(console, "Asked Mem0", lambda _: stack.ask(questions(*calls)))
    demo_report.show(console, outputs["BucketName"], calls[0], answers, after, found)
    return demo_checks.check(calls, answers, before, after, found)


def step(console: Console, done: str, work: Callable[[Callable[[str], None]], Result]) -> Result:
    """The result of `work`, which may say how far it is: seen in a terminal only; the line after it is always there."""
    started = time.monotonic()
    with console.status(f"{done} ...") as status:
        result = work(lambda progress: status.update(f"{done} ... {progress}"))
    console.print(f"[green]✓[/] {done} [dim]({time.monotonic() - started:.1f} s)[/]")
    return result


if __name__ == "__main__":
    sys.exit(main())
