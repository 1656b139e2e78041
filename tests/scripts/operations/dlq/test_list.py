"""`ops dlq list`: each queue with the reasons."""

from tests.archiver.conftest import stage
from tests.scripts.operations.conftest import deploy_outputs
from tests.scripts.operations.dlq.conftest import POISON, UNKNOWN, announcement, call, put_dead_letter


def test_each_queue_is_listed_with_its_reasons(stack, run_ops_json):
    for body in ("a", "b", "c"):
        put_dead_letter(stack, body, **POISON)
    put_dead_letter(stack, stage(stack, call("conv_1")))
    put_dead_letter(stack, announcement("conv_2"), "memory", ErrorCode="403", ErrorMessage="SNS may not send")

    code, found = run_ops_json("dlq", "list")

    assert (code, found["next"].splitlines()) == (
        1,
        [f"Look at the messages: ./scripts/ops dlq show {name} --stack calls" for name in ("archive", "memory")],
    )
    assert [(row["queue"], row["messages"], row["step"], row["error"]) for row in found["rows"]] == [
        ("archive", 3, "webhook", "The body is not JSON."),
        ("archive", 1, "all attempts failed", UNKNOWN),
        ("memory", 1, "delivery by SNS", "SNS may not send"),
    ]


def test_empty_queues_are_no_problem(run_ops):
    code, out, _ = run_ops("dlq", "list")

    assert (code, out) == (0, "All queues are empty.\n")


def test_a_stack_that_fetches_nothing_has_no_queue_for_it(stack, run_ops):
    without = {name: value for name, value in stack.outputs.items() if not name.startswith("Audio")}
    deploy_outputs(without)

    listed, _, _ = run_ops("dlq", "list")
    code, _, err = run_ops("dlq", "show", "audio")

    assert listed == 0
    assert (code, err) == (2, "The stack has no audio queue. Deploy the stack with the parameter ElevenLabsApiKey.\n")
