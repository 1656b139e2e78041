"""What `make deploy` shows: the changes, the progress, the result. Outputs go to stdout, all else to stderr."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from scripts.deploy.parameters import Setting
from scripts.deploy.stack import STACK_TYPE, Change, Deployed
from scripts.terminal import Terminal, plain

MANY = 12  # names of resources in a line; if there are more, only their types are shown
KINDS = 5

console = Terminal(stderr=True, soft_wrap=True)


def show_settings(settings: Sequence[Setting], *, is_new: bool) -> None:
    """The parameters that are set or changed, by the operator or by a new default."""
    changed = [each for each in settings if each.is_changed]
    for each in changed:
        before = "" if each.before is None else f"{each.shown(each.before)} -> "
        console.print(f"  {each.parameter.name:<24} {before}{each.shown(each.value)}")
    others = "All other parameters" if changed else "All parameters"
    console.print(f"  {others} {'have their defaults' if is_new else 'keep their values'}.")


def show_changes(changes: Sequence[Change]) -> None:
    for title in ("new", "changed", "perhaps replaced", "replaced", "removed"):
        names = sorted(each.resource for each in changes if kind(each) == title)
        if names:
            shown = ", ".join(names) if len(names) <= MANY else by_type(changes, names)
            console.print(f"  {len(names)} {title}: {shown}")


def kind(change: Change) -> str:
    if change.action != "Modify":
        return {"Add": "new", "Remove": "removed"}.get(change.action, change.action)
    return {"True": "replaced", "Conditional": "perhaps replaced"}.get(change.replacement, "changed")


def by_type(changes: Sequence[Change], names: Sequence[str]) -> str:
    """The most frequent types, and the number of others."""
    counted = Counter(each.type.removeprefix("AWS::") for each in changes if each.resource in names)
    most = counted.most_common(KINDS)
    others = len(names) - sum(number for _, number in most)
    return ", ".join(f"{number} {type}" for type, number in most) + (f" and {others} others" if others else "")


def bar() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def steps(progress: Progress, total: int) -> Callable[[dict[str, Any]], None]:
    """What to do at each event: count a resource that is done. Without a terminal, print a line for each."""
    task = progress.add_task("CloudFormation at work", total=total)
    done: set[str] = set()

    def on_event(event: Mapping[str, Any]) -> None:
        name, status = event["LogicalResourceId"], event["ResourceStatus"]
        progress.update(task, description=f"{status.replace('_', ' ').capitalize()}: {name}")
        if status.endswith("_FAILED"):
            console.print(f"{status} {name}: {event.get('ResourceStatusReason', '')}", style="red")
        if status.endswith("_COMPLETE") and event["ResourceType"] != STACK_TYPE and name not in done:
            done.add(name)
            progress.update(task, completed=min(len(done), total))
            if not console.is_terminal:
                console.print(f"{status} {name}")

    return on_event


def show_outputs(made: Deployed, *, is_new: bool) -> None:
    console.print(f"Done. {'The stack is ready.' if is_new else 'The stack is up to date.'}", style="green")
    for output in ("PostCallUrl", "BucketName", "WebhookSecretArn", "DashboardUrl"):
        if output in made.outputs:
            click.echo(plain(f"{output:<18} {made.outputs[output]}"))


def show_next_steps(name: str, region: str) -> None:
    ops = f"AWS_REGION={region} ./scripts/ops --stack {name}"
    for line in (
        "", "Next:",
        "  1. Enter PostCallUrl at ElevenLabs as a post-call webhook: transcript and audio, HMAC, retries on.",
        f"  2. Unless you have entered the signing secret already, do it now: {ops} rotate-secret --yes asks for it.",
        f"  3. Send a test call through the whole stack: {ops} canary",
        f"Later, for updates: AWS_REGION={region} make deploy STACK={name}",
        "docs/deploy.md has the details.",
    ):  # fmt: skip
        console.print(line)
