"""`ops canary`: a test call that is interrupted is deleted again, and what is said of it is true."""

import json

import pytest

from tests.canary.conftest import endpoint
from tests.scripts.operations.conftest import deploy_outputs, ops, press_ctrl_c


@pytest.fixture(autouse=True)
def url(stack, context):
    """The stack `calls` with an endpoint behind which each webhook is archived at once."""
    with endpoint(stack, context) as url:
        outputs = {"PostCallUrl": url, "KeepAudio": "true", "MinimumCallSeconds": "0"}
        deploy_outputs(stack.outputs | outputs)
        yield url


def canary(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command; the functions, which run beside it, write metrics to stdout."""
    code, out, err = ops(capsys, "canary", "--stack", "calls", *words)
    lines = [line for line in out.splitlines(keepends=True) if not line.startswith('{"_aws"')]
    return code, "".join(lines), err


def left(stack) -> list[str]:
    """What there is of test calls: versions of objects, and fields of records that are more than a tombstone."""
    found = stack.s3.list_object_versions(Bucket=stack.bucket)
    objects = [each["Key"] for each in found.get("Versions", []) + found.get("DeleteMarkers", [])]
    records = [field for (_, kind), item in stack.items().items() if kind == "call" for field in item]
    return objects + sorted(set(records) - {"conversation_id", "item", "erased_at", "expires"})


def test_a_test_call_comes_through_and_is_deleted(stack, capsys):
    code, out, _ = canary(capsys, "--json")

    found = json.loads(out)
    assert (code, len(found["rows"]), left(stack)) == (0, 3, [])
    assert all(isinstance(row["seconds"], float) for row in found["rows"])


@pytest.mark.parametrize(
    ("operation", "number"),
    [("HeadObject", 1), ("DeleteObject", 1), ("DeleteItem", 1), ("PutItem", 2)],  # the first is the archiver's
)
def test_ctrl_c_at_any_step_deletes_the_test_call(stack, capsys, aws_calls, operation, number):
    aws_calls.interrupt(operation, number)

    code, out, err = canary(capsys)

    assert (code, out, left(stack)) == (130, "", [])
    assert err.splitlines()[-1] == "Interrupted. The test call is deleted again."


def test_a_second_ctrl_c_during_the_deletion_names_the_command_that_completes_it(stack, capsys, aws_calls):
    def press() -> None:
        if aws_calls.seen["DeleteObject"] == 2:
            press_ctrl_c()
        if aws_calls.seen["DeleteObject"] <= 2:
            press_ctrl_c()

    aws_calls.after("DeleteObject", press)
    code, out, _ = canary(capsys, "--json")
    aws_calls.reset()

    error = json.loads(out)["error"]
    (conversation_id,) = {each for each, kind in stack.items() if kind == "call"}
    assert code == 130
    assert error == (
        "Interrupted. The test call is not deleted completely. To delete the rest: "
        f"./scripts/ops erase --conversation {conversation_id} --yes --stack calls"
    )


def test_a_deletion_that_is_refused_names_the_command_that_completes_it(stack, capsys, aws_calls):
    aws_calls.interrupt("HeadObject", 1)
    aws_calls.refuse("DeleteObject")

    code, _, err = canary(capsys)

    assert code == 130
    assert (
        "The test call is not deleted completely. To delete the rest: ./scripts/ops erase --conversation canary_" in err
    )
