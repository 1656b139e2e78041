"""The session that the operators' commands share: its region, its profile, and what is said when one is missing."""

from pathlib import Path

import pytest

from scripts.aws_session import OpsError, aws_session
from scripts.operations.stack import local_stack
from scripts.test_s3_storage import s3
from tests.scripts.operations.conftest import ops

FILE = """
[default]
region = eu-north-1
[profile work]
region = eu-central-1
[profile bare]
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An operator's machine with two profiles, the second without a region, and nothing in the environment."""
    (tmp_path / "config").write_text(FILE)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_REGION": "us-west-1", "AWS_DEFAULT_REGION": "us-west-2", "AWS_PROFILE": "work"}, "us-west-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-west-2", "AWS_PROFILE": "work"}, "us-west-2"),
        ({"AWS_DEFAULT_REGION": "", "AWS_PROFILE": "work"}, "eu-central-1"),
        ({}, "eu-north-1"),
    ],
    ids=["AWS_REGION first", "then AWS_DEFAULT_REGION", "then the profile", "then the default profile"],
)
def test_the_region_comes_from_the_first_place_that_names_one(machine, variables, region):
    for name, value in variables.items():
        machine.setenv(name, value)

    session = aws_session()

    assert session.region_name == region
    assert session.client("sqs").meta.region_name == region


def test_without_a_region_it_says_how_to_set_one(machine):
    machine.setenv("AWS_PROFILE", "bare")

    with pytest.raises(OpsError, match=r"^No AWS region is set: set AWS_REGION, or give the profile a region\.$"):
        aws_session()

    assert aws_session(otherwise="us-east-1").region_name == "us-east-1"


@pytest.mark.parametrize("region", [{}, {"AWS_REGION": "us-east-1"}], ids=["no region", "a region"])
def test_an_unknown_profile_is_named(machine, region):
    for name, value in region.items() | {("AWS_PROFILE", "wrok\x1b[2J")}:
        machine.setenv(name, value)

    with pytest.raises(OpsError, match=r"^There is no AWS profile 'wrok\\x1b\[2J': set AWS_PROFILE"):
        aws_session()


def test_a_configuration_file_that_cannot_be_read_is_named(machine, tmp_path):
    (tmp_path / "config").write_text("[default\nregion")

    with pytest.raises(OpsError, match=r"^The AWS configuration cannot be read: .*config"):
        aws_session()


@pytest.mark.parametrize(
    ("profile", "said"),
    [("bare", "No AWS region is set: set AWS_REGION"), ("wrok", "There is no AWS profile 'wrok': set AWS_PROFILE")],
)
def test_the_tool_says_in_a_sentence_what_the_session_lacks(machine, capsys, profile, said):
    machine.setenv("AWS_PROFILE", profile)

    code, out, err = ops(capsys, "status")

    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(said)


def test_the_tool_works_in_the_region_that_aws_region_names(aws, machine, capsys):
    machine.setenv("AWS_REGION", "eu-west-1")

    code, _, err = ops(capsys, "status")

    assert code == 2
    assert err.splitlines()[-1].startswith("There is no stack agentic-memory in eu-west-1.")


def test_an_endpoint_that_is_no_url_ends_in_a_sentence(machine, capsys):
    machine.setenv("AWS_ENDPOINT_URL", "nowhere")

    code, out, err = ops(capsys, "status")

    assert (code, out, err.splitlines()[-1]) == (2, "", "The AWS settings cannot be used: Invalid endpoint: nowhere.")


def test_a_profile_that_is_not_there_does_not_concern_the_local_stack(machine, tmp_path):
    machine.setenv("AWS_PROFILE", "wrok")
    outputs = tmp_path / "outputs.json"
    outputs.write_text(
        '{"StackName": "agentic-memory", "AwsEndpointUrl": "http://127.0.0.1:9", "Region": "us-east-1",'
        ' "AccessKeyId": "test", "SecretAccessKey": "test"}'
    )

    client = local_stack(outputs).client("sqs")

    assert (client.meta.region_name, client.meta.endpoint_url) == ("us-east-1", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("variables", "region"), [({"AWS_REGION": "eu-west-1"}, "eu-west-1"), ({"AWS_PROFILE": "bare"}, "us-east-1")]
)
def test_the_storage_check_takes_the_same_region_and_does_without_one(machine, variables, region):
    for name, value in variables.items():
        machine.setenv(name, value)

    assert s3().meta.region_name == region
