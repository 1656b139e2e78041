"""How many functions run at once, and how many messages each takes."""

from tests.alarms import Deployed
from tests.options import WITH_ALL_FUNCTIONS


def test_by_default_the_other_functions_leave_two_of_a_new_accounts_ten_executions_to_ingest():
    """Two, because a call's transcript and audio arrive at the same moment, and ElevenLabs never repeats audio.

    Readers are not counted: they take of these two while they wait for an answer, as docs/read.md says. The indexer is
    not counted either: it runs for some seconds after five minutes or a thousand calls, and once an hour.
    Transcription is off by default, and docs/deploy.md says that it takes two more.
    """
    stack = Deployed(**WITH_ALL_FUNCTIONS | {"Transcribe": "off"})
    polled = stack.of("AWS::Lambda::EventSourceMapping").values()
    scheduled = stack.of("AWS::Events::Rule").values()

    most = {each["FunctionName"]: int(each["ScalingConfig"]["MaximumConcurrency"]) for each in polled}
    most |= {
        rule["Targets"][0]["Arn"].removesuffix(".Arn"): 1 for rule in scheduled
    }  # a pass ends before the next begins

    assert set(most) == set(stack.of("AWS::Lambda::Function")) - {"IngestFunction", "ReadFunction"}
    assert sum(number for name, number in most.items() if name != "IndexerFunction") <= 10 - 2


def test_the_indexer_waits_until_it_has_a_batch():
    (mapping,) = (
        each for each in Deployed().of("AWS::Lambda::EventSourceMapping").values()
        if each["FunctionName"] == "IndexerFunction"
    )  # fmt: skip

    assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == (1000, 300)
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}


def test_a_body_that_crashes_the_archiver_fails_no_other():
    (mapping,) = (
        each for each in Deployed().of("AWS::Lambda::EventSourceMapping").values()
        if each["FunctionName"] == "ArchiverFunction"
    )  # fmt: skip

    assert mapping["BatchSize"] == 1
