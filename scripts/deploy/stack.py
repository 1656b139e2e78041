"""A stack in CloudFormation: what it has, what an update would change, and the update itself."""

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, WaiterError

from scripts.aws_session import OpsError, explained
from scripts.deploy.parameters import Setting
from shared.aws_errors import error_code

# The roles have generated names. CAPABILITY_AUTO_EXPAND does not apply to change sets.
CAPABILITIES = ["CAPABILITY_IAM"]
POLL_SECONDS = 2.0
TEN_MINUTES = {"Delay": POLL_SECONDS, "MaxAttempts": 300}
REVIEW = "REVIEW_IN_PROGRESS"  # only a change set was made, perhaps by somebody else: nothing is deployed yet
FAILED_AT_FIRST = "ROLLBACK_COMPLETE"  # the first deployment failed, and nothing of it is left
STUCK = {
    "CREATE_FAILED": "its first deployment failed and was not rolled back. Delete it in the console",
    "ROLLBACK_FAILED": "its first deployment failed and could not be rolled back. Delete it in the console",
    "DELETE_FAILED": "it could not be deleted. The console says why; delete it there",
    "UPDATE_FAILED": "an update failed and was not rolled back. Roll it back: "
    "aws cloudformation rollback-stack --stack-name {name}",
    "UPDATE_ROLLBACK_FAILED": "an update failed and could not be rolled back. Fix the resource that the console "
    "names; then run: aws cloudformation continue-update-rollback --stack-name {name}",
    "IMPORT_ROLLBACK_FAILED": "an import failed and could not be rolled back. Look at it in the console",
}
STACK_TYPE = "AWS::CloudFormation::Stack"
KEPT = ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::SecretsManager::Secret")
NEVER_REMOVED = ("Bucket", "ConversationTable", "WebhookSecret", "ErasureSecret")
_UNCHANGED = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True)
class Deployed:
    """A stack that is there: its parameters' values and its outputs, by their names."""

    arn: str
    status: str
    values: dict[str, str]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Change:
    """What happens to one resource. `action`: Add, Modify or Remove. `replacement`: True, Conditional or False."""

    resource: str
    type: str
    action: str
    replacement: str

    @property
    def loses_data(self) -> bool:
        is_removed = self.action == "Remove" and self.resource in NEVER_REMOVED
        return is_removed or (self.replacement == "True" and self.type in KEPT)


class Prepared(NamedTuple):
    """A change set that can be carried out, and its stack: both by ARN."""

    change_set: str
    stack: str


class CloudFormation:
    """All requests to CloudFormation about one stack, by its name."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self.name = client, name

    def find(self) -> Deployed | None:
        try:
            return self._describe(self.name)
        except ClientError as error:
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise

    def defaults(self) -> dict[str, str]:
        """The defaults of the parameters in the stack's own template, by name."""
        summary = self._client.get_template_summary(StackName=self.name)
        return {each["ParameterKey"]: each["DefaultValue"] for each in summary["Parameters"] if "DefaultValue" in each}

    def remove(self, stack: Deployed) -> None:
        """Delete a new stack that failed. By its ARN: a new stack of the same name is another one."""
        self._client.delete_stack(StackName=stack.arn)
        try:
            self._client.get_waiter("stack_delete_complete").wait(StackName=stack.arn, WaiterConfig=TEN_MINUTES)
        except WaiterError as error:
            why = _unknown_result(error) or "the console says why; delete it there"
            raise OpsError(f"The failed stack {self.name} could not be deleted: {why}.", code=1) from None

    def prepare(self, template_url: str, settings: Sequence[Setting], *, is_new: bool) -> Prepared | None:
        """Let CloudFormation prepare the change; None if nothing would change.

        Its name and its token are new each time, so that a request that botocore repeats makes no second one.
        """
        name = f"deploy-{uuid.uuid4().hex}"
        try:
            made = self._client.create_change_set(
                StackName=self.name, ChangeSetName=name, ClientToken=name, TemplateURL=template_url,
                ChangeSetType="CREATE" if is_new else "UPDATE", Capabilities=CAPABILITIES,
                Parameters=[each.to_request() for each in settings],
            )  # fmt: skip
        except ClientError as error:
            if error_code(error) == "ValidationError":  # its text names the parameter, and never its value
                raise OpsError(f"CloudFormation refuses the deployment: {error.response['Error']['Message']}") from None
            raise
        return Prepared(made["Id"], made["StackId"]) if self._has_changes(made["Id"]) else None

    def _has_changes(self, change_set: str) -> bool:
        try:
            waiter = self._client.get_waiter("change_set_create_complete")
            waiter.wait(ChangeSetName=change_set, WaiterConfig=TEN_MINUTES)
            return True
        except WaiterError as error:
            if why := _unknown_result(error):
                raise OpsError(f"CloudFormation did not prepare the change: {why}.", code=1) from None
            reason = str(error.last_response.get("StatusReason", ""))
        refused = refusal(self._client, ChangeSetName=change_set) or reason
        self.discard(change_set)
        if any(each in reason for each in _UNCHANGED):
            return False
        raise OpsError(f"CloudFormation refuses the deployment: {refused}", code=1)

    def changes(self, change_set: str) -> list[Change]:
        pages = self._client.get_paginator("describe_change_set").paginate(ChangeSetName=change_set)
        return [
            Change(each["LogicalResourceId"], each["ResourceType"], each["Action"], each.get("Replacement", "False"))
            for page in pages
            for each in (change["ResourceChange"] for change in page["Changes"])
        ]

    def discard(self, change_set: str) -> None:
        """Delete a change set that is not carried out. The empty stack that it may leave does no harm."""
        self._client.delete_change_set(ChangeSetName=change_set)

    def execute(self, change_set: str) -> None:
        """Begin the change. A repeated request does not begin it twice."""
        try:
            self._client.execute_change_set(ChangeSetName=change_set, ClientRequestToken=change_set.split("/")[1])
        except ClientError as error:
            if error_code(error) in ("ChangeSetNotFound", "ChangeSetNotFoundException"):
                raise OpsError("Another deployment of this stack was faster. Run make deploy again.", code=1) from None
            if error_code(error) not in ("InvalidChangeSetStatus", "InvalidChangeSetStatusException"):
                raise  # InvalidChangeSetStatus answers a repeated request: the change has begun

    def last_event(self) -> str:
        """The id of the newest event: later ones belong to the next change."""
        events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
        return str(events[0]["EventId"]) if events else ""

    def follow(self, arn: str, after: str, on_event: Callable[[dict[str, Any]], None]) -> Deployed:
        """Pass on every event later than `after` until the change is over. Raises OpsError if it failed."""
        failures: list[dict[str, Any]] = []
        while True:
            stack = self._describe(arn)  # before the events, so that none is missed
            for event in self._events(arn, after):
                after = event["EventId"]
                failures += [event] if is_failure(event) else []
                on_event(event)
            if is_over(stack.status):
                break
            time.sleep(POLL_SECONDS)
        if has_failed(stack.status):
            cause = first_failure(self._client, failures)
            raise OpsError(f"{cause}. {state_after_failure(stack.status, self.name)}", code=1)
        return stack

    def wait(self, stack: Deployed) -> Deployed:
        """Wait until nothing changes the stack any more, also no removal of resources after an update."""
        while stack.status.endswith("_IN_PROGRESS"):
            time.sleep(POLL_SECONDS)
            stack = self._describe(stack.arn)
        return stack

    def why_failed(self, stack: Deployed) -> str:
        """The first failure of the last change of the stack."""
        last: list[dict[str, Any]] = []
        for event in reversed(self._events(stack.arn, "")):
            last.insert(0, event)
            if event["ResourceType"] == STACK_TYPE and event.get("ResourceStatusReason") == "User Initiated":
                break
        return first_failure(self._client, list(filter(is_failure, last)))

    def _describe(self, name: str) -> Deployed:
        found = self._client.describe_stacks(StackName=name)["Stacks"][0]
        return Deployed(
            found["StackId"], found["StackStatus"],
            {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
            {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])},
        )  # fmt: skip

    def _events(self, arn: str, after: str) -> list[dict[str, Any]]:
        """The oldest first. CloudFormation lists the newest first."""
        new: list[dict[str, Any]] = []
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=arn):
            for event in page["StackEvents"]:
                if event["EventId"] == after:
                    return new[::-1]
                new.append(event)
        return new[::-1]


def is_over(status: str) -> bool:
    """Whether the change is over. The removal of unused resources may still run."""
    return not status.endswith("_IN_PROGRESS") or "CLEANUP" in status


def has_failed(status: str) -> bool:
    return "ROLLBACK" in status or status.endswith("_FAILED")


def is_failure(event: dict[str, Any]) -> bool:
    """Whether this is a cause, and not a resource that was cancelled because of another one's failure."""
    reason = event.get("ResourceStatusReason", "")
    return event["ResourceStatus"].endswith("_FAILED") and reason != "" and "cancelled" not in reason


def first_failure(client: Any, failures: Sequence[dict[str, Any]]) -> str:
    """Which resource failed first, and why. What CloudFormation refuses before it begins is not in these events."""
    if not failures:
        return "No event says why it failed"
    first = failures[0]
    if first["ResourceType"] == STACK_TYPE:
        which = {"OperationId": first["OperationId"]} if "OperationId" in first else {"StackName": first["StackId"]}
        if refused := refusal(client, **which):
            return refused
    return f"{first['LogicalResourceId']} ({first['ResourceType']}): {first['ResourceStatusReason'].rstrip('.')}"


def refusal(client: Any, **which: str) -> str:
    """The first fault that the validation of an operation or a change set found; empty if none."""
    with suppress(ClientError):
        events = client.describe_events(**which, Filters={"FailedEvents": True}).get("OperationEvents", [])
        for event in events:
            if reason := event.get("ValidationStatusReason"):
                return f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason.rstrip('.')}"
    return ""


def state_after_failure(status: str, name: str) -> str:
    """The state after a failure, and what to do."""
    if status in STUCK:
        return f"The stack {name} cannot be updated now: {STUCK[status].format(name=name)}."
    if status.startswith("UPDATE_ROLLBACK_COMPLETE"):
        return "The update was rolled back. The stack is as it was before."
    if status == FAILED_AT_FIRST:
        return "Nothing is left of the new stack. Fix the cause, then run make deploy again."
    return f"The stack {name} is now {status}."


def _unknown_result(error: WaiterError) -> str:
    """Why the result is unknown; empty if it is known: a failure."""
    answer = error.last_response
    if "Error" in answer:
        return str(explained(ClientError(answer, "the request"))).rstrip(".")
    status = str(answer.get("Status", "")) or next((each["StackStatus"] for each in answer.get("Stacks", [])), "")
    return "" if status.endswith("FAILED") else "it took more than ten minutes. Run make deploy again"
