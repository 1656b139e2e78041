"""How many functions run at once, and how many messages each takes."""

from tests.alarms import Deployed
from tests.options import WITH_ALL_FUNCTIONS


def test_by_default_the_other_functions_leave_ingest_two_of_the_ten_that_a_new_account_may_run_at_once():
    """Two, because a call's transcript and audio come at the same moment, and audio is never sent again."""
    stack = Deployed(**WITH_ALL_FUNCTIONS)
    polled = stack.of("AWS::Lambda::EventSourceMapping").values()
    scheduled = stack.of("AWS::Events::Rule").values()

    most = {each["FunctionName"]: int(each["ScalingConfig"]["MaximumConcurrency"]) for each in polled}
    most |= {
        rule["Targets"][0]["Arn"].removesuffix(".Arn"): 1 for rule in scheduled
    }  # a pass ends before the next begins

    assert set(most) == set(stack.of("AWS::Lambda::Function")) - {"IngestFunction"}
    assert sum(most.values()) <= 10 - 2


def test_a_body_that_kills_the_archiver_takes_no_other_along():
    (mapping,) = (
        each for each in Deployed().of("AWS::Lambda::EventSourceMapping").values()
        if each["FunctionName"] == "ArchiverFunction"
    )  # fmt: skip

    assert mapping["BatchSize"] == 1
