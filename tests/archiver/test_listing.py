"""How an archived call is listed: by day, agent and caller, and as open work only while there is some."""

import pytest

import archiver.handler
from shared.indexes import BUCKETS, INDEXES, LISTED, agent_partitions, day_partitions, listing
from shared.record import Records
from tests.archiver.conftest import audio, envelope, stage
from tests.conftest import Stack

STARTED = 1772550000  # 2026-03-03T15:00:00Z


def call(conversation_id: str = "conv_1", at: int = 1772550278, started: int | None = STARTED, **fields) -> dict:
    metadata = {"phone_call": {"external_number": "+12025550123"}, "cost": 126, "call_duration_secs": 42}
    metadata |= {"start_time_unix_secs": started} if started else {}
    data = {"conversation_id": conversation_id, "agent_id": "agent_1", "metadata": metadata} | fields
    return envelope(data, at=at)


def listed(aws: Stack, index: str, partitions: list[str]) -> dict[str, dict]:
    """What an index has under these keys, by conversation."""
    found = {}
    for partition in partitions:
        for page in archiver.handler.aws().records._query(index, partition):
            found |= {each["conversation_id"]: each for each in page}
    return found


def open_audio(aws: Stack) -> list[str]:
    return [each.conversation_id for each in archiver.handler.aws().records.find_missing_audio()]


def test_a_call_is_listed_under_its_day_its_agent_and_its_caller(aws, archive):
    archive(stage(aws, call(analysis={"call_successful": "success", "call_summary_title": "A boat is moved"})))

    by_day = listed(aws, "by-day", day_partitions("2026-03-03"))["conv_1"]
    assert set(by_day) == {*LISTED, "conversation_id", "item", "day", "listed_at"} - {"status", "erased_at"}
    assert (by_day["listed_at"], by_day["cost"], by_day["call_successful"]) == ("2026-03-03T15:00:00Z", 126, "success")
    assert set(listed(aws, "by-agent", agent_partitions("agent_1", "2026-03"))) == {"conv_1"}
    assert set(listed(aws, "by-caller", ["12025550123"])) == {"conv_1"}
    assert archiver.handler.aws().records.days() == ["2026-03-03"]
    assert aws.call("conv_1")["title"] == "A boat is moved"


def test_a_call_has_the_same_time_under_each_of_its_numbers(aws, archive):
    failure = {"conversation_id": "conv_1", "metadata": {"body": {"To": "+12025550188"}}}
    archive(stage(aws, envelope(failure, "call_initiation_failure")), stage(aws, call()))

    times = [listed(aws, "by-caller", [digits])["conv_1"]["listed_at"] for digits in ("12025550123", "12025550188")]
    assert times == ["2026-03-03T15:00:00Z"] * 2


def test_a_newer_version_with_another_start_and_agent_moves_the_call(aws, archive):
    archive(stage(aws, call()))
    archive(stage(aws, call(at=1772550299, started=STARTED + 86400, agent_id="agent_2")))

    assert listed(aws, "by-day", day_partitions("2026-03-03")) == {}
    assert set(listed(aws, "by-day", day_partitions("2026-03-04"))) == {"conv_1"}
    assert listed(aws, "by-agent", agent_partitions("agent_1", "2026-03")) == {}
    assert set(listed(aws, "by-agent", agent_partitions("agent_2", "2026-03"))) == {"conv_1"}


def test_a_call_whose_start_is_unknown_is_listed_when_it_was_archived(aws, archive):
    archive(stage(aws, call(started=None)))
    record = aws.call("conv_1")

    assert record["listed_at"] == record["archived_at"]
    assert set(listed(aws, "by-day", day_partitions(record["archived_at"][:10]))) == {"conv_1"}


def test_a_day_is_noted_before_a_call_is_listed_on_it(aws, archive):
    seen = []
    records = archiver.handler.aws().records
    records._table.meta.client.meta.events.register(
        "before-call.dynamodb.UpdateItem", lambda **_: seen.append(records.days())
    )

    archive(stage(aws, call()), stage(aws, call("conv_2")))

    assert seen[0] == ["2026-03-03"]


@pytest.mark.parametrize("first", ["transcript", "audio"])
def test_a_call_is_open_work_only_while_its_recording_is_missing_or_parked(aws, archive, first):
    records = archiver.handler.aws().records
    checks = {"transcript": stage(aws, call()), "audio": stage(aws, audio())}

    archive(checks.pop(first))
    assert open_audio(aws) == (["conv_1"] if first == "transcript" else [])
    assert records.count("by-state", "parked") == (first == "audio")
    archive(*checks.values())

    assert (open_audio(aws), records.count("by-state", "parked")) == ([], 0)


def test_a_repeated_transcript_of_a_complete_call_is_no_open_work(aws, archive):
    check = stage(aws, call())
    archive(check, stage(aws, audio()))

    assert archive(check, stage(aws, call(at=1772550300))) == []

    assert open_audio(aws) == []
    assert aws.call("conv_1")["audio"] == "archived"


def test_a_request_that_takes_effect_late_opens_no_work_again(aws, archive):
    """The answer to the first request was lost, the second one was answered, and then the first one took effect."""
    client = archiver.handler.aws().records._table.meta.client
    requests = []
    client.meta.events.register(
        "provide-client-params.dynamodb.UpdateItem", lambda params, **_: requests.append(dict(params))
    )
    archive(stage(aws, call()))
    archive(stage(aws, audio()))

    with pytest.raises(client.exceptions.ConditionalCheckFailedException):
        client.update_item(**requests[0])

    assert open_audio(aws) == []


def test_a_newer_transcript_without_audio_is_no_open_work_and_one_with_audio_is(aws, archive):
    archive(stage(aws, call(has_audio=False)))
    assert open_audio(aws) == []

    archive(stage(aws, call(at=1772550300, has_audio=True)))
    assert open_audio(aws) == ["conv_1"]


def test_calls_are_spread_over_all_partitions_of_a_day_and_of_an_agent() -> None:
    found = [listing(f"conv_{number}", "agent_1", "2026-03-03T15:00:00Z") for number in range(4000)]

    for attribute, partitions in (
        ("day", day_partitions("2026-03-03")), ("agent_month", agent_partitions("agent_1", "2026-03"))
    ):  # fmt: skip
        counts = [sum(each[attribute] == partition for each in found) for partition in partitions]
        assert sum(counts) == len(found)
        assert max(counts) < 2 * len(found) / BUCKETS


def test_an_erased_call_is_in_no_index(aws, archive):
    archive(stage(aws, call()))
    records: Records = archiver.handler.aws().records
    records.write_tombstone(records.erase("conv_1", "2026-11-22T10:00:00Z"))

    keys = {"by-audio": ["pending"], "by-state": ["parked"], "by-caller": ["12025550123"],
            "by-agent": agent_partitions("agent_1", "2026-03"), "by-day": day_partitions("2026-03-03")}  # fmt: skip
    assert keys.keys() == INDEXES.keys()
    assert {index: listed(aws, index, partitions) for index, partitions in keys.items()} == {
        index: {} for index in keys
    }
