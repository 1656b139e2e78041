"""A stack in each of CloudFormation's states, and answers of CloudFormation that are late, lost or refused."""

from datetime import datetime, timezone
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from scripts.aws_session import OpsError
from scripts.deploy.__main__ import at_rest
from scripts.deploy.stack import Change, CloudFormation, state_after_failure

ARN = "arn:aws:cloudformation:us-east-1:111122223333:stack/calls/1"
CHANGE_SET = "arn:aws:cloudformation:us-east-1:111122223333:changeSet/deploy-1/2"
NOW = datetime(2026, 11, 24, tzinfo=timezone.utc)
OURS, ANOTHERS = {"WebhookSecretValue": "****"}, {"Size": "large"}
FAILED = {"LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket", "ResourceStatus": "CREATE_FAILED",
          "ResourceStatusReason": "calls already exists"}  # fmt: skip

STACK = {"LogicalResourceId": "calls", "ResourceType": "AWS::CloudFormation::Stack"}
OVER = STACK | {"ResourceStatus": "ROLLBACK_COMPLETE"}
BEGUN = STACK | {"ResourceStatus": "CREATE_IN_PROGRESS", "ResourceStatusReason": "User Initiated"}
CLEANUP = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"


class Scripted(CloudFormation):
    """CloudFormation's own client, which answers as it is told, and fails the test for anything else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        client = boto3.client("cloudformation", region_name="us-east-1")
        self.stub = Stubber(client)
        self.stub.activate()
        monkeypatch.setattr("scripts.deploy.stack.POLL_SECONDS", 0)
        monkeypatch.setattr("scripts.deploy.stack.TEN_MINUTES", {"Delay": 0, "MaxAttempts": 3})
        super().__init__(client, "calls")

    def describe(self, *statuses: str, values: dict[str, str] = OURS) -> None:
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
        for status in statuses:
            stack = {
                "StackName": "calls",
                "StackId": ARN,
                "CreationTime": NOW,
                "StackStatus": status,
                "Parameters": parameters,
            }
            self.stub.add_response("describe_stacks", {"Stacks": [stack]})

    def events(self, *events: dict[str, Any]) -> None:
        """The newest first, as CloudFormation lists them."""
        common = {"StackId": ARN, "StackName": "calls", "Timestamp": NOW}
        listed = [common | {"EventId": str(number)} | event for number, event in enumerate(events)]
        self.stub.add_response("describe_stack_events", {"StackEvents": listed}, {"StackName": ARN})


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    return Scripted(monkeypatch)


@pytest.mark.parametrize("values", [OURS, ANOTHERS], ids=["ours", "another's"])
def test_a_stack_under_review_is_left_alone_whoever_made_it(stack: Scripted, values: dict[str, str]) -> None:
    stack.describe("REVIEW_IN_PROGRESS", values=values)

    assert at_rest(stack) is None
    stack.stub.assert_no_pending_responses()


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "CREATE_COMPLETE", "UPDATE_IN_PROGRESS"])
def test_another_applications_stack_is_never_touched(stack: Scripted, status: str) -> None:
    stack.describe(status, values=ANOTHERS)

    with pytest.raises(OpsError, match="belongs to another application"):
        at_rest(stack)


def test_a_failed_first_deployment_is_deleted_by_its_arn_and_its_reason_reported(
    stack: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.describe("ROLLBACK_COMPLETE")
    stack.events(
        {
            "LogicalResourceId": "calls",
            "ResourceType": "AWS::CloudFormation::Stack",
            "ResourceStatus": "ROLLBACK_COMPLETE",
        },
        FAILED,
    )
    stack.stub.add_response("delete_stack", {}, {"StackName": ARN})
    stack.describe("DELETE_COMPLETE")

    assert at_rest(stack) is None
    assert "Bucket (AWS::S3::Bucket): calls already exists." in capsys.readouterr().err


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", CLEANUP, "UPDATE_ROLLBACK_IN_PROGRESS"])
def test_an_update_waits_until_nothing_is_under_way(stack: Scripted, status: str) -> None:
    stack.describe(status, status, "UPDATE_COMPLETE")

    found = at_rest(stack)

    assert found is not None
    assert found.status == "UPDATE_COMPLETE"


def test_a_stack_that_is_being_deleted_is_none_when_that_is_done(stack: Scripted) -> None:
    stack.describe("DELETE_IN_PROGRESS", "DELETE_COMPLETE")

    assert at_rest(stack) is None


@pytest.mark.parametrize(
    ("status", "cure"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name calls"),
        ("UPDATE_FAILED", "rollback-stack --stack-name calls"),
        ("ROLLBACK_FAILED", "Delete it in the console"),
        ("DELETE_FAILED", "delete it there"),
        ("CREATE_FAILED", "Delete it in the console"),
        ("IMPORT_ROLLBACK_FAILED", "Look at it in the console"),
    ],
)
def test_a_stack_that_is_stuck_is_refused_with_what_to_do(stack: Scripted, status: str, cure: str) -> None:
    stack.describe(status)

    with pytest.raises(OpsError, match=cure):
        at_rest(stack)
    assert cure in state_after_failure(status, "calls")


def test_only_an_update_that_was_rolled_back_is_reported_as_such() -> None:
    taken_back = ("UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")

    said = [
        state_after_failure(status, "calls")
        for status in (*taken_back, "ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE")
    ]

    assert said == [
        "The update was rolled back. The stack is as it was before.",
        "The update was rolled back. The stack is as it was before.",
        "Nothing is left of the new stack. Fix the cause, then run make deploy again.",
        "The stack calls is now IMPORT_ROLLBACK_COMPLETE.",
    ]


def test_the_first_cause_of_a_failure_is_reported_and_not_what_was_cancelled_because_of_it(stack: Scripted) -> None:
    cancelled = FAILED | {"LogicalResourceId": "Queue", "ResourceStatusReason": "Resource creation cancelled"}
    stack.describe("UPDATE_ROLLBACK_COMPLETE")
    stack.events(cancelled, FAILED, FAILED | {"EventId": "before", "LogicalResourceId": "Table"})

    with pytest.raises(
        OpsError, match=r"^Bucket \(AWS::S3::Bucket\): calls already exists. The update was rolled back"
    ):
        stack.follow(ARN, "before", lambda _: None)


def begin(stack: Scripted) -> None:
    """The change set is made; how it comes out is told next."""
    asked = {
        "StackName": "calls", "ChangeSetName": ANY, "ClientToken": ANY, "TemplateURL": "url",
        "ChangeSetType": "UPDATE", "Capabilities": ["CAPABILITY_IAM"], "Parameters": [],
    }  # fmt: skip
    stack.stub.add_response("create_change_set", {"Id": CHANGE_SET, "StackId": ARN}, asked)


def fail(stack: Scripted, reason: str, *found: dict[str, str]) -> None:
    stack.stub.add_response("describe_change_set", {"Status": "FAILED", "StatusReason": reason})
    stack.stub.add_response("describe_events", {"OperationEvents": list(found)})
    stack.stub.add_response("delete_change_set", {}, {"ChangeSetName": CHANGE_SET})


def prepare(stack: Scripted) -> object:
    return stack.prepare("url", [], is_new=False)


def test_a_change_set_without_changes_is_none_and_is_removed(stack: Scripted) -> None:
    begin(stack)
    fail(stack, "The submitted information didn't contain changes.")

    assert prepare(stack) is None
    stack.stub.assert_no_pending_responses()


def test_what_validation_finds_is_reported_with_its_resource(stack: Scripted) -> None:
    begin(stack)
    named = {"LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket"}
    fail(stack, "EarlyValidation failed", named | {"ValidationStatusReason": "The name is taken."})

    with pytest.raises(OpsError, match=r"refuses the deployment: Bucket \(AWS::S3::Bucket\): The name is taken$"):
        prepare(stack)


def test_a_change_set_that_takes_long_is_no_refusal(stack: Scripted) -> None:
    begin(stack)
    for _ in range(3):
        stack.stub.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS"})

    with pytest.raises(OpsError, match="it took more than ten minutes"):
        prepare(stack)


def test_throttling_is_no_refusal(stack: Scripted) -> None:
    begin(stack)
    stack.stub.add_client_error("describe_change_set", "Throttling")

    with pytest.raises(OpsError, match=r"did not prepare the change: The AWS request .* failed \(Throttling\)"):
        prepare(stack)


def test_a_request_to_begin_whose_answer_was_lost_has_begun(stack: Scripted) -> None:
    stack.stub.add_client_error("execute_change_set", "InvalidChangeSetStatus")

    stack.execute(CHANGE_SET)


def test_a_deployment_reports_that_another_one_was_faster(stack: Scripted) -> None:
    stack.stub.add_client_error("execute_change_set", "ChangeSetNotFound")

    with pytest.raises(OpsError, match="Another deployment of this stack was faster"):
        stack.execute(CHANGE_SET)


@pytest.mark.parametrize(
    ("change", "loses"),
    [
        (Change("Bucket", "AWS::S3::Bucket", "Modify", "True"), True),
        (Change("Bucket", "AWS::S3::Bucket", "Modify", "Conditional"), False),
        (Change("ConversationTable", "AWS::DynamoDB::Table", "Remove", "False"), True),
        (Change("MemorySecret", "AWS::SecretsManager::Secret", "Remove", "False"), False),
        (Change("IngestRole", "AWS::IAM::Role", "Modify", "True"), False),
    ],
)
def test_which_changes_lose_data(change: Change, loses: bool) -> None:
    assert change.loses_data is loses
