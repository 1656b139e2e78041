"""The window of a pass: it never moves past a call that is unfinished."""

import json
from datetime import timedelta

import pytest

from reconciler.handler import reconcile
from scripts.embedded.elevenlabs import item
from shared.times import utc
from tests.reconciler.conftest import HOUR, NOW, START, conversation, run


@pytest.fixture
def short_pages(monkeypatch):
    monkeypatch.setattr("reconciler.elevenlabs.PAGE", 10)


def test_all_calls_of_a_day_are_fetched_in_one_pass(aws, elevenlabs, archive_all, short_pages):
    for number in range(25):
        elevenlabs.add(conversation(f"conv_{number}", ended=timedelta(minutes=70 + 50 * number)))

    report = run()

    assert report["outcomes"] == {"fetched": 25}
    assert len(archive_all()) == 25
    assert [request.query["page_size"] for request in elevenlabs.requests if request.route == "list"] == ["10"] * 3


@pytest.mark.parametrize("change", ["cursors expire", "a call is added", "a call is deleted"])
def test_a_list_that_changes_during_reading_is_read_to_its_end(aws, elevenlabs, short_pages, change):
    for number in range(25):
        elevenlabs.add(conversation(f"conv_{number}", ended=timedelta(minutes=70 + number), has_audio=False))
    lists = 0

    def act(request):
        nonlocal lists
        if request.route != "list":
            return
        lists += 1
        if lists == 2:
            if change == "cursors expire":
                elevenlabs.expire_cursors()
            elif change == "a call is added":
                elevenlabs.add(conversation("conv_new", ended=timedelta(minutes=61)))
            elif change == "a call is deleted":
                del elevenlabs.conversations["conv_5"]

    elevenlabs.before_answer = act

    report = run()

    assert report["outcomes"]["fetched"] >= 24
    staged = {json.loads(aws.body(key))["data"]["conversation_id"] for key in aws.object_keys("staging/")}
    assert staged >= {f"conv_{number}" for number in range(25)} - {"conv_5"}


def test_a_cursor_that_never_works_ends_the_pass_with_an_error(aws, elevenlabs, short_pages):
    for number in range(15):
        elevenlabs.add(conversation(f"conv_{number}", has_audio=False))

    def expire(request):
        elevenlabs.expire_cursors()

    elevenlabs.before_answer = (
        expire  # all calls started in the same second, so there is no earlier time to continue from
    )

    assert run()["error"] == "ElevenLabs: answered 400"


def test_a_pass_that_runs_out_of_time_reports_it_and_the_next_one_continues(aws, elevenlabs, archive_all, short_pages):
    for number in range(15):
        elevenlabs.add(conversation(f"conv_{number}", ended=timedelta(minutes=70 + number), has_audio=False))

    def has_time() -> bool:
        return not any(request.route == "get" for request in elevenlabs.requests)

    report = reconcile(NOW, has_time)
    assert not report["is_complete"]
    assert report["outcomes"]["no_time"] + report["outcomes"]["fetched"] == 10
    archive_all()

    assert run(NOW + HOUR)["outcomes"]["fetched"] == 15 - report["outcomes"]["fetched"]


def test_a_call_that_could_not_be_fetched_stays_in_the_window(aws, elevenlabs, archive_all):
    run(NOW - timedelta(days=4))
    elevenlabs.add(conversation(ended=timedelta(days=3)))
    for hours in range(0, 23, 8):
        elevenlabs.plan("get", *["500"] * 4)
        assert run(NOW + hours * HOUR)["missing_calls"] == 1

    assert run(NOW + 23 * HOUR)["outcomes"] == {"fetched": 1}
    archive_all()
    assert run(NOW + 24 * HOUR)["missing_calls"] == 0
    assert run(NOW + 25 * HOUR)["listed"] == 0  # after that the window is 48 h again


def test_a_call_that_lasts_for_days_stays_in_the_window(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(status="processing"))
    run(NOW)
    run(NOW + 40 * HOUR)
    elevenlabs.conversations["conv_1"] |= {"status": "done"}

    assert run(NOW + 72 * HOUR)["outcomes"] == {"fetched": 1}


def test_a_call_that_never_ends_stays_in_the_window_for_30_days(aws, elevenlabs):
    elevenlabs.add(conversation(status="in-progress"))

    settled = [run(NOW + timedelta(days=days))["settled_until"] for days in (0, 1, 29, 31)]

    assert settled == [utc(START)] * 3 + [utc(NOW + timedelta(days=31))]


def test_after_more_than_30_days_without_a_list_the_pass_starts_at_the_last_good_one(aws, elevenlabs, archive_all):
    run(NOW)
    elevenlabs.add(conversation(ended=-HOUR))

    assert run(NOW + timedelta(days=45))["outcomes"] == {"fetched": 1}


def test_a_call_with_an_unknown_start_keeps_the_window_open_for_30_days(aws, elevenlabs):
    data = conversation()
    del data["metadata"]["start_time_unix_secs"]
    elevenlabs.before_answer = lambda _: elevenlabs.conversations.update(conv_1=data)
    elevenlabs._selected = lambda _: [item(data) | {"start_time_unix_secs": None}]  # type: ignore[method-assign]
    elevenlabs.plan("get", "403")

    assert run()["settled_until"] == utc(NOW - timedelta(days=30))
