"""Stacks of the template on the embedded AWS, and parts of the template as parameters make it."""

from itertools import count
from typing import Any

from scripts.embedded.aws import EmbeddedAws
from scripts.embedded.deployment import create, deploy
from scripts.embedded.translation import emulate
from tests.alarms import Deployed, translated
from tests.conftest import Stack
from tests.policies import listed

# AWS's managed policy AWSLambdaVPCAccessExecutionRole has these, besides those for logs.
INTERFACES = [
    "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
]  # fmt: skip


NUMBERS = count()  # of stacks, whose buckets have names of their own


PLACE = {
    "AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
}  # fmt: skip


Json = dict[str, Any]


def stack_of(emulator: EmbeddedAws, parameters: dict[str, str]) -> Stack:
    name = f"options-{next(NUMBERS)}"
    return Stack(emulator.client, deploy(emulator, name, {"BucketName": name} | parameters))


def ask(emulator: EmbeddedAws, name: str, parameters: dict[str, str]) -> None:
    """Ask for a stack whose functions have no code: it is made or refused quickly."""
    create(emulator, name, emulate(translated(), parameters, emulator.endpoint_url), parameters, {})


def bucket(**parameters: str) -> Json:
    return Deployed(**parameters).of("AWS::S3::Bucket")["Bucket"]


def rules(**parameters: str) -> dict[str, Json]:
    """The bucket's lifecycle rules by their names."""
    return {rule["Id"]: rule for rule in bucket(**parameters)["LifecycleConfiguration"]["Rules"]}


def rights(**parameters: str) -> dict[str, list[Json]]:
    """What each role may do, with actions and resources as lists."""
    deployed = Deployed(**parameters)
    found = {name: list(role.get("Policies", [])) for name, role in deployed.of("AWS::IAM::Role").items()}
    for policy in deployed.of("AWS::IAM::Policy").values():
        found[policy["Roles"][0]].append(policy)
    return {
        name: [
            statement | {key: listed(statement[key]) for key in ("Action", "Resource")}
            for policy in policies for statement in policy["PolicyDocument"]["Statement"]
        ] for name, policies in found.items()
    }  # fmt: skip


def rights_to(service: str, **parameters: str) -> dict[str, set[tuple[str, str]]]:
    """The actions of one service that each role may take, with their resources; roles that may not are left out."""
    found = {
        role: {
            (action, resource)
            for statement in statements for action in statement["Action"] for resource in statement["Resource"]
            if action.startswith(f"{service}:")
        } for role, statements in rights(**parameters).items()
    }  # fmt: skip
    return {role: actions for role, actions in found.items() if actions}
