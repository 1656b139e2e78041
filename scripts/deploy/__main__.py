"""Deploy the stack: a new one by at most eight questions, an update without any.

An update keeps every value that the stack has. PARAMETERS="Name=Value ..." changes what it names. For a secret write
Name=ask: you then type it, and it is not shown.

Exit codes: 0 done, or nothing to do; 1 it failed; 2 it cannot be done as it was asked; 130 interrupted.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError

from scripts.aws_session import STACK_NAME, OpsError, aws_session, explained
from scripts.concurrency import limits, low_limit
from scripts.deploy.package import TEMPLATE, package
from scripts.deploy.parameters import (
    Parameter,
    Setting,
    chosen_before,
    for_new,
    for_update,
    read_constants,
    read_given,
    read_template,
)
from scripts.deploy.preflight import check_bucket, check_credentials, check_python, check_region
from scripts.deploy.questions import Questions
from scripts.deploy.stack import FAILED_AT_FIRST, REVIEW, STUCK, CloudFormation, Deployed, state_after_failure
from scripts.deploy.view import bar, console, show_changes, show_next_steps, show_outputs, show_settings, steps

REGION = "us-east-1"
INTERRUPTED = 130
CONTINUES = "CloudFormation continues what it has begun. Run the same command again to see the result."


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--stack", envvar="STACK", help=f"Name of the stack ({STACK_NAME} if not given).")
@click.option("--parameters", envvar="PARAMETERS", default="", help='"Name=Value Other=Value": what to change.')
@click.option(
    "--built", envvar="BUILT", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The template that make build left, to deploy as it is; without, it is built first.",
)  # fmt: skip
def command(stack: str | None, parameters: str, built: Path | None) -> None:
    deploy(stack or STACK_NAME, parameters, built)


def main(arguments: Sequence[str] | None = None) -> int:
    """No error ends in a stack trace."""
    try:
        command(arguments, prog_name="make deploy", standalone_mode=False)
    except click.Abort:
        return report(f"Interrupted. {CONTINUES}", INTERRUPTED)
    except click.ClickException as error:
        return report(error.format_message(), 2)
    except OpsError as error:
        return report(str(error), error.code)
    except (ClientError, BotoCoreError) as error:
        refused = explained(error)
        return report(str(refused), refused.code)
    return 0


def report(text: str, code: int) -> int:
    console.print(text, style="red")
    return code


def deploy(name: str, parameters: str, built: Path | None) -> None:
    """From the checks to the outputs. Raises OpsError, or what AWS answers."""
    if not built:
        check_python()
    template = built or TEMPLATE
    declared, constants = read_template(template), read_constants(template)
    questions = Questions(declared)
    session = aws_session(otherwise=REGION)
    check_region(session, str(session.region_name))
    account = check_credentials(session)
    stack = CloudFormation(session.client("cloudformation"), name)
    found = at_rest(stack)
    given = read_given(parameters, declared, constants, questions.hidden)
    if found is None:
        session = ask_name_and_region(questions, name, session)
        stack = CloudFormation(session.client("cloudformation"), questions.name)
        found = at_rest(stack)
    settings = update(stack, found, given, declared) if found else new(session, account, given, questions)
    console.print(
        f"{'Update of the' if found else 'New'} stack {stack.name}, in {session.region_name}, account {account}",
        style="bold",
    )
    show_settings(settings, is_new=found is None)
    for note in chosen_before(constants, found.values if found else {}):
        console.print(note, style="yellow")
    if note := low_limit(limits(session.client)):
        console.print(f"Good to know: {note}", style="yellow")
    made = carry_out(stack, package(session, built, backend(settings, found)), settings, found)
    if made and found is None:
        show_next_steps(stack.name, str(session.region_name))


def ask_name_and_region(questions: Questions, name: str, session: Session) -> Session:
    """Ask for the name and the region of a new stack. The answer to the first is `questions.name`."""
    if not sys.stdin.isatty():
        raise OpsError(
            f"There is no stack {name} in {session.region_name}. To make one, run make deploy in a terminal, where it "
            "can ask for the settings. To update another stack, name it with STACK=name and its region with AWS_REGION."
        )
    questions.ask_name(name)
    os.environ["AWS_REGION"] = questions.region(str(session.region_name), partial(check_region, session))
    chosen = aws_session()
    check_credentials(chosen)
    return chosen


def at_rest(stack: CloudFormation) -> Deployed | None:
    """The stack, once nothing is changing it any more. None if there is none, or only one that was never made."""
    found = stack.find()
    if found is None or found.status == REVIEW:
        return None
    if "WebhookSecretValue" not in found.values:
        raise OpsError(f"The stack {stack.name} belongs to another application: choose another name with STACK=name.")
    if found.status.endswith("_IN_PROGRESS"):
        with console.status(f"Waiting: the stack {stack.name} is being changed ({found.status}) ..."):
            found = stack.wait(found)
    if found.status == "DELETE_COMPLETE":
        return None
    if found.status in STUCK:
        raise OpsError(state_after_failure(found.status, stack.name))
    if found.status == FAILED_AT_FIRST:
        console.print(f"The first deployment of {stack.name} failed: {stack.why_failed(found)}.")
        with console.status("Deleting what it left. It holds no calls ..."):
            stack.remove(found)
        return None
    return found


def new(session: Session, account: str, given: Mapping[str, str], questions: Questions) -> list[Setting]:
    """The settings of a new stack. Its bucket's name must be free."""
    check_bucket(session, given.get("BucketName") or f"elevenlabs-agentic-memory-{account}-{session.region_name}")
    settings = for_new(questions.declared, {**questions.parameters(given), **given})
    console.print()
    return settings


def update(
    stack: CloudFormation, found: Deployed, given: Mapping[str, str], declared: Mapping[str, Parameter]
) -> list[Setting]:
    """The settings of an update. Raises OpsError for a parameter that must not change in a stack with calls."""
    key, bucket = found.values.get("KmsKeyArn"), found.outputs.get("BucketName")
    if key and given.get("KmsKeyArn", key) != key:
        raise OpsError("KmsKeyArn cannot be changed: the functions could not read what the present key has encrypted.")
    if given.get("BucketName", bucket) not in (bucket, found.values.get("BucketName")):
        raise OpsError(
            f"BucketName cannot be changed: the calls are in {bucket}. STACK=name makes a second stack, with its "
            "own bucket."
        )
    if "WebhookSecretValue" in given:
        raise OpsError(
            "WebhookSecretValue is for a new stack. ./scripts/ops rotate-secret --yes changes the signing secret of "
            "this one without refusing a webhook."
        )
    return for_update(declared, given, found.values, stack.defaults())


def backend(settings: Sequence[Setting], found: Deployed | None) -> str:
    """The MemoryBackend that the stack will have."""
    chosen = next((each.value for each in settings if each.parameter.name == "MemoryBackend"), None)
    return chosen or (found.values.get("MemoryBackend") if found else None) or "platform"


def carry_out(stack: CloudFormation, url: str, settings: Sequence[Setting], found: Deployed | None) -> bool:
    """Change the stack; False if there is nothing to change."""
    with console.status("CloudFormation prepares the change ..."):
        prepared = stack.prepare(url, settings, is_new=found is None)
    if prepared is None:
        console.print("Nothing to change: the stack already matches the template and the parameters.", style="green")
        return False
    changes = stack.changes(prepared.change_set)
    show_changes(changes)
    if lost := [each.resource for each in changes if each.loses_data]:
        stack.discard(prepared.change_set)
        raise OpsError(
            f"Nothing was changed. The update would replace {', '.join(lost)} by an empty one, and the stack would "
            "lose its data. Undo that change, or make a second stack: STACK=name."
        )
    after = stack.last_event()
    stack.execute(prepared.change_set)
    with watching(), bar() as progress:
        made = stack.follow(prepared.stack, after, steps(progress, len(changes)))
    show_outputs(made, is_new=found is None)
    return True


@contextmanager
def watching() -> Iterator[None]:
    """An error while we watch CloudFormation does not stop CloudFormation."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise OpsError(f"{explained(error)} {CONTINUES}", code=1) from None


if __name__ == "__main__":
    sys.exit(main())
