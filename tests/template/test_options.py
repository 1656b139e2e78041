"""Each option of the template deploys alone and with all others, and wrong values are refused."""

import re

import pytest
from botocore.exceptions import ClientError

from scripts.embedded.deployment import wait
from scripts.webhooks import send
from tests.alarms import translated
from tests.conftest import fixture_body
from tests.options import EVERYTHING, KEY, OPTIONS, REPLICA
from tests.pipeline.conftest import wait_until
from tests.template.stacks import NUMBERS, Json, ask, stack_of


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_deploys_alone(emulator, option):
    name = f"options-{next(NUMBERS)}"

    ask(emulator, name, {"BucketName": name} | OPTIONS[option])

    assert wait(emulator, name)["BucketName"] == name


def test_all_options_together_archive_a_call(emulator):
    deployed = stack_of(emulator, EVERYTHING)

    response = send(deployed.outputs["PostCallUrl"], deployed.outputs["WebhookSecret"], fixture_body("02"))

    assert response.status_code == 200
    wait_until(lambda: any(key.endswith(".json") for key in deployed.object_keys()))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        pytest.param({"ReplicationKmsKeyArn": KEY}, "there are none without ReplicationBucketArn", id="key, no copies"),
        pytest.param(
            {"KmsKeyArn": "create", "ReplicationBucketArn": REPLICA}, "Give its ARN as ReplicationKmsKeyArn",
            id="copies in clear of what is encrypted",
        ),
        pytest.param({"KmsKeyArn": "alias/mine"}, "KmsKeyArn.*must be the ARN of a KMS key", id="alias"),
        pytest.param({"ReplicationBucketArn": "replica"}, "must be the ARN of a bucket", id="name of a bucket"),
        pytest.param({"ExpireAfterDays": "27"}, "28 days or more", id="expiry before a call is surely remembered"),
        pytest.param({"ObjectLockDays": "-1"}, "ObjectLockDays", id="negative days"),
        pytest.param({"ObjectLockMode": "LEGAL"}, "ObjectLockMode", id="unknown mode"),
        pytest.param({"AccessLogging": "yes"}, "AccessLogging", id="neither true nor false"),
        pytest.param({"VpcSubnetIds": "subnet-01234567"}, "Give VpcSubnetIds and", id="subnets alone"),
        pytest.param({"VpcSecurityGroupIds": "sg-01234567"}, "Give VpcSubnetIds and", id="security groups alone"),
        pytest.param({"VpcSubnetIds": "subnet-01234567, subnet-12345678"}, "no blanks", id="blanks between subnets"),
        pytest.param(
            {"SourceAddresses": "filter", "CanaryMinutes": "15"}, "AllowedSources, or set CanaryMinutes to 0",
            id="a canary that would be refused",
        ),
        pytest.param(
            {"ObjectLockDays": "7", "CanaryMinutes": "15"}, "Set one of them to 0", id="a canary that cannot clean up"
        ),
        pytest.param(
            {"GradualDeployment": "AllAtOnce"}, "Give each update another DeploymentId", id="an update without a name"
        ),
        pytest.param({"JwtIssuer": "https://issuer.example"}, "Give JwtIssuer and JwtAudience", id="no audience"),
        pytest.param({"JwtAudience": "app-1"}, "Give JwtIssuer and JwtAudience", id="no issuer"),
        pytest.param(
            {"JwtIssuer": "http://issuer.example", "JwtAudience": "app-1"}, "must be an address that begins with https://",
            id="an issuer without TLS",
        ),
        pytest.param({"SourceAddresses": "on"}, "SourceAddresses", id="unknown use of addresses"),
        *(
            pytest.param({"AllowedSources": addresses}, "must be IPv4 addresses", id=f"addresses {addresses!r}")
            for addresses in (" ", "203.0.113", "203.0.113.256", "203.0.113.0/33", "203.0.113.1,", "203.0.113.1, ::1")
        ),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_a_sentence_before_anything_is_made(emulator, parameters, reason):
    with pytest.raises(ClientError, match=reason):
        ask(emulator, "refused", parameters)


HOSTS = ["Mem0Host", "ElevenLabsApiHost"]


@pytest.mark.parametrize(
    "address",
    [
        "https://api.mem0.ai", "https://api.eu.residency.elevenlabs.io/", "https://mem0.example:8443/v3/base",
        "http://127.0.0.1", "http://127.0.0.1:9", "http://localhost:8080/api", "http://[::1]:8000/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", HOSTS)
def test_keys_are_sent_over_tls_or_to_this_machine(name, address):
    assert is_accepted(name, address)


@pytest.mark.parametrize(
    "address",
    [
        "http://api.mem0.ai", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://localhostevil",
        "http://127.0.0.1@evil.example", "http://127.0.0.1:80@evil.example", "http://user@127.0.0.1",
        "https://user@evil.example", "https://api.mem0.ai@evil.example/", "http://127.0.0.1\\@evil.example",
        "http://127.0.0.1#@evil.example", "http://127.0.0.1?@evil.example", "http://10.0.0.7", "http://0.0.0.0:80",
        "http://[::1].evil.example", "http://[::2]", "http://127.0.0.1:port", "https://", "https:///path", "ftp://127.0.0.1",
        "https://api.mem0.ai ", "https://api.mem0.ai\nhttp://evil.example", "api.mem0.ai", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", HOSTS)
def test_keys_are_sent_to_no_other_address(name, address):
    assert not is_accepted(name, address)


def is_accepted(name: str, value: str) -> bool:
    """CloudFormation wants a pattern to fit the whole value."""
    return re.fullmatch(translated()["Parameters"][name]["AllowedPattern"], value) is not None


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_without_tls_is_refused_with_a_sentence(emulator, name):
    with pytest.raises(ClientError, match=f"{name}.*https://.*http:// on this machine"):
        ask(emulator, "refused", {name: "http://127.0.0.1.evil.example"})


def test_every_parameter_has_a_description_and_a_place_in_a_group():
    groups = translated()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]

    assert sorted(shown) == sorted(translated()["Parameters"])
    assert all(parameter.get("Description") for parameter in translated()["Parameters"].values())


def test_every_exception_from_the_security_rules_has_its_reason():
    skips = [skip for each in translated()["Resources"].values() for skip in checkov(each).get("skip", [])]

    assert skips
    assert all(skip["id"] and skip["comment"] for skip in skips)


def checkov(resource: Json) -> Json:
    return resource.get("Metadata", {}).get("checkov", {})
