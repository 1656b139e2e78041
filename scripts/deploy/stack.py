"""A stack as CloudFormation knows it: what it has, what an update would change, and how that goes."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from botocore.exceptions import ClientError, WaiterError

from scripts.aws_session import OpsError
from scripts.deploy.parameters import Setting
from shared.aws_errors import error_code

# Capabilities: the roles have generated names. CAPABILITY_AUTO_EXPAND does not hold for change sets.
CAPABILITIES = ["CAPABILITY_IAM"]
POLL_SECONDS = 2.0
NEVER_MADE = ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE")  # nothing is in it, nor was
STUCK = {
    "CREATE_FAILED": "its first deployment failed, and was left as it was. Delete it in the console",
    "ROLLBACK_FAILED": "its first deployment failed, and could not be taken back. Delete it in the console",
    "DELETE_FAILED": "it could not be deleted. The console says why; delete it there",
    "UPDATE_ROLLBACK_FAILED": "an update failed, and could not be taken back. Repair the resource that the console "
    "names; then: aws cloudformation continue-update-rollback --stack-name {name}",
}
KEPT = ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::SecretsManager::Secret")
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
    """What happens to one resource. `action`: Add, Modify, Remove; a replacement is a new one in place of the old."""

    resource: str
    type: str
    action: str
    is_replacement: bool


class CloudFormation:
    """Everything that is asked of CloudFormation about one stack, by its name."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self.name = client, name

    def find(self) -> Deployed | None:
        try:
            found = self._client.describe_stacks(StackName=self.name)["Stacks"][0]
        except ClientError as error:
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        return Deployed(
            found["StackId"], found["StackStatus"],
            {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
            {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])},
        )  # fmt: skip

    def defaults(self) -> dict[str, str]:
        """The defaults in the stack's own template, by its parameters' names."""
        summary = self._client.get_template_summary(StackName=self.name)
        return {each["ParameterKey"]: each["DefaultValue"] for each in summary["Parameters"] if "DefaultValue" in each}

    def remove_remains(self) -> None:
        """Delete a stack that was never made. Raises OpsError."""
        arn = self._found().arn
        self._client.delete_stack(StackName=self.name)
        try:
            self._client.get_waiter("stack_delete_complete").wait(
                StackName=arn, WaiterConfig={"Delay": POLL_SECONDS, "MaxAttempts": 300}
            )
        except WaiterError:
            raise OpsError(
                f"What is left of the failed stack {self.name} could not be deleted: do it in the console.", 1
            ) from None

    def prepare(self, template_url: str, settings: Sequence[Setting], *, is_new: bool) -> str | None:
        """Let CloudFormation work out the change; returns the change set's ARN, None if nothing would change."""
        name = f"deploy-{datetime.now(timezone.utc):%Y%m%d%H%M%S}"
        try:
            made = self._client.create_change_set(
                StackName=self.name, ChangeSetName=name, ChangeSetType="CREATE" if is_new else "UPDATE",
                TemplateURL=template_url, Capabilities=CAPABILITIES,
                Parameters=[each.to_request() for each in settings],
            )  # fmt: skip
        except ClientError as error:
            if error_code(error) == "ValidationError":  # its text names the parameter, and never its value
                raise OpsError(f"CloudFormation refuses the deployment: {error.response['Error']['Message']}") from None
            raise
        arn = str(made["Id"])
        try:
            self._client.get_waiter("change_set_create_complete").wait(
                ChangeSetName=arn, WaiterConfig={"Delay": POLL_SECONDS, "MaxAttempts": 300}
            )
        except WaiterError as error:
            reason = str(error.last_response.get("StatusReason", ""))
            if any(each in reason for each in _UNCHANGED):
                self.discard(arn, is_new=is_new)
                return None
            refused = refusal(self._client, ChangeSetName=arn) or reason
            self.discard(arn, is_new=is_new)
            raise OpsError(f"CloudFormation refuses the deployment: {refused}", code=1) from None
        return arn

    def changes(self, change_set: str) -> list[Change]:
        pages = self._client.get_paginator("describe_change_set").paginate(ChangeSetName=change_set)
        return [
            Change(each["LogicalResourceId"], each["ResourceType"], each["Action"], each.get("Replacement") == "True")
            for page in pages
            for each in (change["ResourceChange"] for change in page["Changes"])
        ]

    def discard(self, change_set: str, *, is_new: bool) -> None:
        """Leave nothing of a change set that is not carried out. One of a new stack has made an empty stack."""
        self._client.delete_change_set(ChangeSetName=change_set)
        if is_new:
            self._client.delete_stack(StackName=self.name)

    def execute(self, change_set: str) -> None:
        self._client.execute_change_set(ChangeSetName=change_set)

    def last_event(self) -> str:
        """The newest event's id: what comes after it is of what is done next."""
        events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
        return str(events[0]["EventId"]) if events else ""

    def follow(self, after: str, on_event: Callable[[dict[str, Any]], None]) -> Deployed:
        """Hand on every event after the one `after` until the stack comes to rest. Raises OpsError if it failed."""
        arn, seen = self._found().arn, after
        failures = []
        while True:
            status = self._client.describe_stacks(StackName=arn)["Stacks"][0][
                "StackStatus"
            ]  # first: no event is missed
            for event in self._events(arn, seen):
                seen = event["EventId"]
                failures += [event] if is_failure(event) else []
                on_event(event)
            if is_over(status):
                break
            time.sleep(POLL_SECONDS)
        if "ROLLBACK" in status or status.endswith("FAILED"):
            raise OpsError(f"{first_failure(self._client, failures)}. {_aftermath(status)}", code=1)
        return self._found()

    def _events(self, arn: str, after: str) -> list[dict[str, Any]]:
        """The oldest first. CloudFormation lists the newest first."""
        new: list[dict[str, Any]] = []
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=arn):
            for event in page["StackEvents"]:
                if event["EventId"] == after:
                    return new[::-1]
                new.append(event)
        return new[::-1]

    def _found(self) -> Deployed:
        found = self.find()
        if found is None:
            raise OpsError(f"The stack {self.name} is gone: somebody deleted it meanwhile.", code=1)
        return found


def is_over(status: str) -> bool:
    """Whether nothing more is done, or only what is not used any more is removed."""
    return not status.endswith("_IN_PROGRESS") or "CLEANUP" in status


def is_failure(event: dict[str, Any]) -> bool:
    """Whether this is a cause. What was under way meanwhile is cancelled, and fails because of it."""
    reason = event.get("ResourceStatusReason", "")
    return event["ResourceStatus"].endswith("_FAILED") and reason != "" and "cancelled" not in reason


def first_failure(client: Any, failures: Sequence[dict[str, Any]]) -> str:
    """Which resource failed first, and why. What CloudFormation refuses before it begins, its events do not say."""
    if not failures:
        return "No event says why it failed"
    first = failures[0]
    if first["ResourceType"] == "AWS::CloudFormation::Stack":
        which = {"OperationId": first["OperationId"]} if "OperationId" in first else {"StackName": first["StackId"]}
        if refused := refusal(client, **which):
            return refused
    return f"{first['LogicalResourceId']} ({first['ResourceType']}): {first['ResourceStatusReason'].rstrip('.')}"


def refusal(client: Any, **which: str) -> str:
    """What the validation of an operation, or of a change set, found first; empty if nothing."""
    with suppress(ClientError):
        events = client.describe_events(**which, Filters={"FailedEvents": True}).get("OperationEvents", [])
        for event in events:
            if reason := event.get("ValidationStatusReason"):
                return f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason.rstrip('.')}"
    return ""


def _aftermath(status: str) -> str:
    if status.startswith("UPDATE"):
        return "The update was taken back, and the stack is as it was before."
    return "Nothing was kept of the new stack; once the cause is gone, make deploy makes it anew."
