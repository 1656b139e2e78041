"""Lists of calls: what they have, their order, their filters, their pages."""

from tests.api.conftest import Get, call, ids, stage


def test_a_call_is_listed_with_what_its_record_says(aws, archive, get: Get) -> None:
    said = {"transcript_summary": "She asked about the dog.", "call_summary_title": "The dog"}
    archive(stage(aws, call(analysis=said | {"call_successful": "success"})))

    (row,) = get("/calls")["calls"]

    assert row | {"archived_at": ""} == {
        "conversation_id": "conv_1", "agent_id": "agent_1", "caller": "+12025550123",
        "started_at": "2026-03-03T15:00:00Z", "duration_secs": 60, "status": None, "outcome": "success",
        "title": "The dog", "summary": "She asked about the dog.", "audio": "pending", "cost": 100, "archived_at": "",
    }  # fmt: skip


def test_the_newest_call_comes_first(aws, archive, get: Get) -> None:
    archive(*(stage(aws, call(f"conv_{day}", 1772550000 + 86400 * day)) for day in (1, 3, 2)))

    assert ids(get("/calls")) == ["conv_3", "conv_2", "conv_1"]
