"""Deploy the stack: a new one by at most eight questions, an update without any.

An update keeps every value that the stack has. PARAMETERS="Name=Value ..." changes what it names; a secret is written
Name=ask, and asked for hidden.

Exit codes: 0 done, or nothing to do; 1 it failed; 2 it cannot be done as it was asked; 130 interrupted.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click
from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError

from scripts.aws_session import OpsError, aws_session, explained
from scripts.concurrency import limits, low_limit
from scripts.deploy.package import TEMPLATE, build, check_built, upload
from scripts.deploy.parameters import Setting, for_new, for_update, read_given, read_template
from scripts.deploy.preflight import check_bucket, check_credentials, check_python, check_region
from scripts.deploy.questions import Questions
from scripts.deploy.stack import KEPT, NEVER_MADE, STUCK, CloudFormation, Deployed, is_over
from scripts.deploy.view import bar, console, show_changes, show_outputs, show_settings, steps

STACK_NAME = "agentic-memory"
REGION = "us-east-1"
INTERRUPTED = 130


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
        return say(
            "Interrupted. What CloudFormation has begun goes on; run the same command again to see it.", INTERRUPTED
        )
    except click.ClickException as error:
        return say(error.format_message(), 2)
    except OpsError as error:
        return say(str(error), error.code)
    except (ClientError, BotoCoreError) as error:
        refused = explained(error)
        return say(str(refused), refused.code)
    return 0


def say(text: str, code: int) -> int:
    console.print(text, style="red")
    return code


def deploy(name: str, parameters: str, built: Path | None) -> None:
    if not built:
        check_python()
    declared = read_template(built or TEMPLATE)
    questions = Questions(declared)
    session = aws_session(otherwise=REGION)
    check_region(session, str(session.region_name))
    account = check_credentials(session)
    stack = CloudFormation(session.client("cloudformation"), name)
    found = settled(stack)
    given = read_given(parameters, declared, questions.hidden)
    if found is None:
        name, session, stack, found = place(questions, name, session)
    where = f"{name}, in {session.region_name}, account {account}"
    if found:
        check_given(given, found)
        settings = for_update(declared, given, found.values, stack.defaults())
        console.print(f"Update of the stack {where}", style="bold")
    else:
        check_bucket(session, given.get("BucketName") or f"elevenlabs-agentic-memory-{account}-{session.region_name}")
        settings = for_new(declared, questions.parameters() | given)
        console.print()
        console.print(f"New stack {where}", style="bold")
    show_settings(settings, is_new=found is None)
    if note := low_limit(limits(session.client)):
        console.print(f"Good to know: {note}", style="yellow")
    backend = value(settings, "MemoryBackend") or (found.values["MemoryBackend"] if found else "platform")
    url = packaged(session, built, backend)
    carry_out(stack, url, settings, found, str(session.region_name))


def place(questions: Questions, name: str, session: Session) -> tuple[str, Session, CloudFormation, Deployed | None]:
    """Where a new stack is to be. There may be one already, which is updated then."""
    if not sys.stdin.isatty():
        raise OpsError(
            f"There is no stack {name} in {session.region_name}, and nobody to ask for a new one: run make deploy in a "
            "terminal, or name the stack with STACK=name and its region with AWS_REGION."
        )
    name = questions.stack_name(name)
    os.environ["AWS_REGION"] = questions.region(str(session.region_name), partial(check_region, session))
    session = aws_session()
    stack = CloudFormation(session.client("cloudformation"), name)
    return name, session, stack, settled(stack)


def settled(stack: CloudFormation) -> Deployed | None:
    """The stack when nothing is under way any more; None if there is none, or one that was never made."""
    found = stack.find()
    if found and found.status != "REVIEW_IN_PROGRESS" and not is_over(found.status):
        console.print(f"The stack {stack.name} is being changed ({found.status}): waiting for that first.")
        found = stack.follow(stack.last_event(), lambda _: None)
    if found is None:
        return None
    if found.status in NEVER_MADE:
        console.print(f"What a failed first deployment left of {stack.name} goes first.")
        stack.remove_remains()
        return None
    if found.status in STUCK:
        raise OpsError(f"The stack {stack.name} cannot be updated: {STUCK[found.status].format(name=stack.name)}.")
    if "WebhookSecretValue" not in found.values:
        raise OpsError(f"The stack {stack.name} is another application's: name yours with STACK=name.")
    return found


def check_given(given: Mapping[str, str], found: Deployed) -> None:
    """What may not be changed on a stack that has calls. Raises OpsError."""
    key, bucket = found.values.get("KmsKeyArn"), found.outputs.get("BucketName")
    if key and given.get("KmsKeyArn", key) != key:
        raise OpsError("KmsKeyArn stays once it is given: the functions could not read what that key encrypted.")
    if given.get("BucketName", bucket) != bucket:
        raise OpsError(
            f"BucketName stays: the calls are in {bucket}. STACK=name makes a second stack with its own bucket."
        )
    if "WebhookSecretValue" in given:
        raise OpsError(
            "WebhookSecretValue is for a new stack. ./scripts/ops rotate-secret --yes changes the signing secret of "
            "this one, and no webhook is refused meanwhile."
        )


def value(settings: Sequence[Setting], name: str) -> str | None:
    return next((each.value for each in settings if each.parameter.name == name), None)


def packaged(session: Session, built: Path | None, backend: str) -> str:
    if built:
        check_built(built, backend)
    else:
        with console.status("Building the functions' packages, a minute or two ..."):
            built = build(backend)
    with console.status("Uploading the packages ..."):
        return upload(session, built)


def carry_out(
    stack: CloudFormation, url: str, settings: Sequence[Setting], found: Deployed | None, region: str
) -> None:
    with console.status("CloudFormation works out what changes ..."):
        change_set = stack.prepare(url, settings, is_new=found is None)
    if change_set is None:
        console.print("Nothing to change: the stack is as template and parameters say.", style="green")
        return
    changes = stack.changes(change_set)
    show_changes(changes)
    lost = [each.resource for each in changes if each.type in KEPT and each.is_replacement]
    if lost:
        stack.discard(change_set, is_new=found is None)
        raise OpsError(
            f"Nothing was changed: this would put an empty one in place of {', '.join(lost)}, and what is kept there "
            "would not be found any more. Leave that as it is, or make a second stack: STACK=name."
        )
    after = stack.last_event()
    stack.execute(change_set)
    with bar() as progress:
        made = stack.follow(after, steps(progress, len(changes)))
    show_outputs(made, is_new=found is None, region=region)


if __name__ == "__main__":
    sys.exit(main())
