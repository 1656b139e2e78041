"""The scheduled pass over ElevenLabs' list of calls."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count

import boto3
import pytest

import reconciler.handler
from archiver.handler import lambda_handler
from reconciler.handler import reconcile
from scripts.elevenlabs_stand_in import item
from shared.times import utc
from tests.archiver.conftest import stage
from tests.conftest import forget, sqs_event
from tests.reconciler.conftest import NOW, conversation, run
from tests.schedules import Crash

HOUR = timedelta(hours=1)
START = NOW - 3 * HOUR - timedelta(minutes=1)  # of `conversation`


def audio_asked_for(aws) -> list[str]:
    return [json.loads(message["Body"])["conversation_id"] for message in aws.take("AudioQueueUrl")]


def test_a_call_that_no_webhook_brought_is_archived_like_any_other(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation())

    report = run()

    (check,) = archive_all()
    assert check["source"] == "reconciler"
    assert aws.json("12025550123/conv_1.json") == elevenlabs.conversations["conv_1"]
    assert aws.head("12025550123/conv_1.json")["Metadata"]["order"].startswith("0-")
    assert aws.json(check["staged_key"])["type"] == "post_call_transcription"
    assert aws.tags(check["staged_key"]) == {"archived": "true"}
    assert [each["event"] for each in aws.announcements()] == ["transcript_archived"]
    assert (report["missing_calls"], report["outcomes"]) == (1, {"fetched": 1})


def test_a_pass_over_a_whole_archive_changes_nothing(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=False))
    run()
    archive_all()
    aws.announcements()
    before = aws.versions(), aws.call("conv_1")

    report = run(NOW + HOUR)

    assert (report["missing_calls"], report["missing_audio"], report["oldest"]) == (0, 0, None)
    assert (aws.versions(), aws.call("conv_1")) == before
    assert archive_all() == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ended": timedelta(minutes=59)}, id="ended just now"),
        pytest.param({"status": "in-progress"}, id="goes on"),
        pytest.param({"status": "processing"}, id="is worked on"),
        pytest.param({"status": "initiated"}, id="rings"),
        pytest.param({"ended": timedelta(hours=49)}, id="before the window"),
    ],
)
def test_a_call_whose_webhook_may_still_come_waits(aws, elevenlabs, archive_all, fields):
    elevenlabs.add(conversation(**fields))

    report = run()

    assert report["missing_calls"] == 0
    assert archive_all() == []


def test_a_call_that_failed_is_fetched_too(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(status="failed"))

    run()

    assert len(archive_all()) == 1


def test_a_late_webhook_replaces_what_was_fetched(aws, elevenlabs, archive_all, context):
    elevenlabs.add(conversation())
    run()
    archive_all()
    late = {"type": "post_call_transcription", "event_timestamp": 1, "data": conversation(agent_name="from webhook")}

    assert lambda_handler(sqs_event(stage(aws, late)), context) == {"batchItemFailures": []}

    assert aws.json("12025550123/conv_1.json")["agent_name"] == "from webhook"


def test_parked_audio_finds_its_caller(aws, elevenlabs, archive_all, context):
    audio = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }
    lambda_handler(sqs_event(stage(aws, audio)), context)
    elevenlabs.add(conversation())

    run()
    archive_all()

    assert aws.body("12025550123/conv_1.mp3") == b"ID3"


def test_a_call_is_fetched_three_times_at_most_and_stays_missing(aws, elevenlabs):
    elevenlabs.add(conversation())

    reports = [run(NOW + hours * HOUR) for hours in range(5)]

    assert [report["outcomes"] for report in reports] == [{"fetched": 1}] * 3 + [{"given_up": 1}] * 2
    assert [report["missing_calls"] for report in reports] == [1] * 5
    assert reports[-1]["oldest"] == utc(NOW - 3 * HOUR)


def test_a_call_that_is_on_its_way_is_not_fetched_again(aws, elevenlabs):
    elevenlabs.add(conversation())

    reports = [run(NOW), run(NOW + timedelta(minutes=59))]

    assert [report["outcomes"] for report in reports] == [{"fetched": 1}, {"on_its_way": 1}]


def test_failures_of_the_api_use_no_attempt_up(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation())
    for hours in range(4):
        elevenlabs.plan("get", *["500"] * 4)
        assert run(NOW + hours * HOUR)["outcomes"] == {"failed": 1}

    run(NOW + 4 * HOUR)

    assert len(archive_all()) == 1


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop"])
def test_a_short_fault_is_waited_out(aws, elevenlabs, archive_all, fault):
    elevenlabs.add(conversation())
    elevenlabs.plan("list", fault)
    elevenlabs.plan("get", fault, fault)

    assert run()["outcomes"] == {"fetched": 1}


@pytest.mark.parametrize("answer", ["html", "empty", "truncated"])
def test_what_is_no_conversation_is_not_staged(aws, elevenlabs, archive_all, answer):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", answer)

    report = run()

    assert report["outcomes"] == {"failed": 1}
    assert report["missing_calls"] == 1
    assert archive_all() == []


def test_another_call_in_its_place_is_not_staged(aws, elevenlabs, archive_all):
    elevenlabs.conversations["conv_1"] = conversation("conv_1")

    def swap(request):
        if request.route == "get":
            elevenlabs.conversations["conv_1"] = conversation("conv_2")

    elevenlabs.before_answer = swap

    assert run()["outcomes"] == {"failed": 1}
    assert archive_all() == []


def test_a_call_that_is_deleted_between_list_and_get_is_not_missing(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", *["404"] * 3)

    reports = [run(NOW + hours * HOUR) for hours in range(3)]

    assert [report["outcomes"] for report in reports] == [{"not_found": 1}, {"gone": 1}, {"gone": 1}]
    assert [report["missing_calls"] for report in reports] == [0] * 3
    assert aws.call("conv_1")["missing_since"] == utc(NOW)
    assert [report["settled_until"] for report in reports] == [utc(START), utc(NOW + HOUR), utc(NOW + 2 * HOUR)]


def test_a_call_is_gone_only_if_two_passes_in_a_row_do_not_find_it(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", *["500"] * 4, "404", *["500"] * 4, "404", "404")

    outcomes = [run(NOW + hours * HOUR)["outcomes"] for hours in range(5)]

    assert outcomes == [{each: 1} for each in ("failed", "not_found", "failed", "not_found", "gone")]


@pytest.mark.parametrize(("fault", "outcome"), [("404", "not_found"), ("processing", "unfinished"), ("403", "failed")])
def test_a_call_of_long_ago_is_not_passed_over_for_one_answer(aws, elevenlabs, archive_all, fault, outcome):
    run(NOW - timedelta(days=40))
    elevenlabs.add(conversation(ended=timedelta(days=39)))
    elevenlabs.plan("get", fault)
    assert run(NOW)["outcomes"] == {outcome: 1}

    assert run(NOW + HOUR)["outcomes"] == {"fetched": 1}

    archive_all()
    assert run(NOW + 2 * HOUR)["settled_until"] == utc(NOW + 2 * HOUR)


REASONS = {
    "403": "ElevenLabs answered 403",
    "422": "ElevenLabs answered 422",
    "500": "ElevenLabs answered 500",
    "drop": "ElevenLabs: no answer: RemoteProtocolError",
    "html": "ElevenLabs: the answer is not a conversation",
}


@pytest.mark.parametrize(("fault", "reason"), REASONS.items(), ids=REASONS)
def test_whatever_one_call_meets_for_a_day_it_is_given_up_with_the_reason(aws, elevenlabs, fault, reason):
    elevenlabs.add(conversation())
    outcomes = []
    for hours in (0, 12, 23, 24, 25):
        elevenlabs._faults["get"].clear()
        elevenlabs.plan("get", *[fault] * 4)
        report = run(NOW + hours * HOUR)
        outcomes.append(report["outcomes"])

    assert outcomes == [{"failed": 1}] * 3 + [{"unavailable": 1}] * 2
    assert (report["missing_calls"], report["settled_until"]) == (1, utc(NOW + 25 * HOUR))
    call = aws.call("conv_1")
    assert (call["missing_since"], call["missing_reason"]) == (utc(NOW), reason)
    assert call["given_up_at"] == utc(NOW + 24 * HOUR)


def test_a_call_that_is_given_up_is_not_asked_for_by_a_pass_and_archived_if_a_webhook_brings_it(
    aws, elevenlabs, context
):
    elevenlabs.add(conversation())
    for hours in (0, 24):
        elevenlabs.plan("get", "403")
        run(NOW + hours * HOUR)
    asked = len(elevenlabs.requests)
    assert run(NOW + 25 * HOUR)["outcomes"] == {"unavailable": 1}
    assert [request.route for request in elevenlabs.requests[asked:]] == ["list", "webhooks"]

    late = {"type": "post_call_transcription", "event_timestamp": 1, "data": conversation()}
    lambda_handler(sqs_event(stage(aws, late)), context)

    assert run(NOW + 26 * HOUR)["missing_calls"] == 0


def test_a_call_that_was_had_at_last_has_a_whole_day_again(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "403", "ok", "403")

    outcomes = [run(NOW + hours * HOUR)["outcomes"] for hours in (0, 1, 30)]

    assert outcomes == [{"failed": 1}, {"fetched": 1}, {"failed": 1}]


def test_a_refused_key_is_no_fault_of_a_call(aws, elevenlabs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "401")

    assert "refused" in run()["error"]

    assert aws.call("conv_1") == {}


def test_lost_answers_use_up_neither_attempts_nor_patience(aws, elevenlabs, lost_answers):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "404", "ok", "404")

    outcomes = [run(NOW + hours * HOUR)["outcomes"] for hours in range(3)]

    assert outcomes == [{"not_found": 1}, {"fetched": 1}, {"not_found": 1}]
    assert aws.call("conv_1")["fetches"] == 1


def test_an_erased_call_is_not_brought_back(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation())
    item = {"conversation_id": {"S": "conv_1"}, "item": {"S": "call"}, "erased_at": {"S": "2026-11-22T09:00:00Z"}}
    aws.dynamodb.put_item(TableName="conversations", Item=item)

    report = run()

    assert report["missing_calls"] == 0
    assert archive_all() == []


def test_a_wrong_key_is_said_once_and_tried_once(aws, elevenlabs, logs, capsys):
    elevenlabs.key = "another"

    report = run()

    assert "refused" in report["error"]
    assert len(elevenlabs.requests) == 1
    assert "put a valid one into the secret of the parameter ElevenLabsApiKey" in logs.getvalue()
    assert "xi-test" not in logs.getvalue()


def test_a_key_that_was_put_right_holds_from_then_on_and_looks_back_to_the_last_good_pass(aws, elevenlabs, archive_all):
    run(NOW)
    elevenlabs.key = "another"
    elevenlabs.add(conversation("conv_1", ended=-HOUR))
    later = NOW + timedelta(days=5)
    assert "error" in run(later)

    boto3.client("secretsmanager").put_secret_value(SecretId="elevenlabs", SecretString="another")

    assert run(later)["outcomes"] == {"fetched": 1}


def test_an_api_that_is_down_is_said_and_the_next_pass_looks_back_further(aws, elevenlabs, monkeypatch):
    run(NOW)
    elevenlabs.add(conversation("conv_1", ended=-HOUR))
    elevenlabs.plan("list", *["503"] * 4)
    assert run(NOW + timedelta(days=1))["error"] == "ElevenLabs: answered 503"

    assert run(NOW + timedelta(days=5))["outcomes"] == {"fetched": 1}


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
def test_a_list_that_changes_while_it_is_read_is_read_to_its_end(aws, elevenlabs, short_pages, change):
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

    elevenlabs.before_answer = expire  # and all calls began in the same second: no time to go on from either

    assert run()["error"] == "ElevenLabs: answered 400"


def test_a_pass_that_runs_out_of_time_says_so_and_the_next_one_goes_on(aws, elevenlabs, archive_all, short_pages):
    for number in range(15):
        elevenlabs.add(conversation(f"conv_{number}", ended=timedelta(minutes=70 + number), has_audio=False))

    def has_time() -> bool:
        return not any(request.route == "get" for request in elevenlabs.requests)

    report = reconcile(NOW, has_time)
    assert not report["is_complete"]
    assert report["outcomes"]["no_time"] + report["outcomes"]["fetched"] == 10
    archive_all()

    assert run(NOW + HOUR)["outcomes"]["fetched"] == 15 - report["outcomes"]["fetched"]


@pytest.mark.parametrize("fault", ["403", "422"])
def test_a_refusal_of_one_call_is_about_that_call_alone(aws, elevenlabs, archive_all, fault):
    for number in range(3):
        elevenlabs.add(conversation(f"conv_{number}"))
    elevenlabs.plan("get", fault)

    report = run()

    assert report["outcomes"] == {"failed": 1, "fetched": 2}
    assert report["missing_calls"] == 3


def test_a_call_that_could_not_be_fetched_is_not_lost_from_sight_when_the_window_moves_on(aws, elevenlabs, archive_all):
    run(NOW - timedelta(days=4))
    elevenlabs.add(conversation(ended=timedelta(days=3)))
    for hours in range(0, 23, 8):
        elevenlabs.plan("get", *["500"] * 4)
        assert run(NOW + hours * HOUR)["missing_calls"] == 1

    assert run(NOW + 23 * HOUR)["outcomes"] == {"fetched": 1}
    archive_all()
    assert run(NOW + 24 * HOUR)["missing_calls"] == 0
    assert run(NOW + 25 * HOUR)["listed"] == 0  # and then the window is 48 h again


def test_a_call_that_goes_on_for_days_is_not_lost_from_sight(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(status="processing"))
    run(NOW)
    run(NOW + 40 * HOUR)
    elevenlabs.conversations["conv_1"] |= {"status": "done"}

    assert run(NOW + 72 * HOUR)["outcomes"] == {"fetched": 1}


def test_a_call_that_never_ends_is_waited_for_for_30_days(aws, elevenlabs):
    elevenlabs.add(conversation(status="in-progress"))

    settled = [run(NOW + timedelta(days=days))["settled_until"] for days in (0, 1, 29, 31)]

    assert settled == [utc(START)] * 3 + [utc(NOW + timedelta(days=31))]


def test_a_list_that_could_not_be_read_for_longer_than_30_days_is_read_from_there(aws, elevenlabs, archive_all):
    run(NOW)
    elevenlabs.add(conversation(ended=-HOUR))

    assert run(NOW + timedelta(days=45))["outcomes"] == {"fetched": 1}


def test_a_call_whose_begin_nobody_knows_holds_no_more_than_30_days(aws, elevenlabs):
    data = conversation()
    del data["metadata"]["start_time_unix_secs"]
    elevenlabs.before_answer = lambda _: elevenlabs.conversations.update(conv_1=data)
    elevenlabs._selected = lambda _: [item(data) | {"start_time_unix_secs": None}]  # type: ignore[method-assign]
    elevenlabs.plan("get", "403")

    assert run()["settled_until"] == utc(NOW - timedelta(days=30))


# ---------------------------------------------------------------- a window too large for one pass


@pytest.fixture
def backlog(elevenlabs, monkeypatch):
    """Ten pages of two calls, from the days 9 to 4 before NOW, after a good pass; and since then none."""
    monkeypatch.setattr("reconciler.elevenlabs.PAGE", 2)
    run(NOW - timedelta(days=10))
    for number in range(20):
        elevenlabs.add(conversation(f"conv_{number}", ended=timedelta(days=4) + 6 * HOUR * number, has_audio=False))
    elevenlabs.requests.clear()


def lists(elevenlabs) -> list[str]:
    """Up to when each list was asked for."""
    asked = [request.query for request in elevenlabs.requests if request.route == "list"]
    return [each["call_start_before_unix"] for each in asked]


def run_pages(elevenlabs, number: int, now=NOW):
    """A pass with time for so many pages."""
    before = len(lists(elevenlabs))
    return reconcile(now, lambda: len(lists(elevenlabs)) - before <= number)


def test_a_window_too_large_for_one_pass_goes_on_in_the_next_until_all_is_archived(
    aws, elevenlabs, archive_all, backlog
):
    reports = []
    for hours in range(5):
        reports.append(run_pages(elevenlabs, 3, NOW + hours * HOUR))
        archive_all()

    assert len(aws.object_keys("12025550123/")) == 20
    assert [report["is_complete"] for report in reports] == [False, False, False, True, False]
    assert [report["reached"] for report in reports[:3]] == sorted(
        (report["reached"] for report in reports[:3]), reverse=True
    )


def test_after_a_backlog_the_window_is_48_hours_again(aws, elevenlabs, archive_all, backlog):
    for hours in range(12):
        report = run_pages(elevenlabs, 4, NOW + hours * HOUR)
        archive_all()

    assert (report["is_complete"], report["missing_calls"], report["listed"]) == (True, 0, 0)
    assert report["settled_until"] == utc(NOW + 11 * HOUR)


def test_what_was_seen_unfinished_early_in_a_large_window_is_not_forgotten_when_it_is_closed(
    aws, elevenlabs, archive_all, backlog
):
    elevenlabs.conversations["conv_0"] |= {"status": "processing"}
    run_pages(elevenlabs, 4, NOW)
    later = NOW + timedelta(days=3)
    for hours in range(6):
        run_pages(elevenlabs, 4, later + hours * HOUR)
        archive_all()
    elevenlabs.conversations["conv_0"] |= {"status": "done"}

    for hours in range(6, 10):
        run_pages(elevenlabs, 20, later + hours * HOUR)
        archive_all()

    assert "12025550123/conv_0.json" in aws.object_keys()


def test_calls_that_come_while_a_backlog_is_worked_off_are_in_the_next_window(aws, elevenlabs, archive_all, backlog):
    run_pages(elevenlabs, 4)
    elevenlabs.add(conversation("conv_new", ended=-HOUR, has_audio=False))

    for hours in range(3, 12):
        run_pages(elevenlabs, 4, NOW + hours * HOUR)
        archive_all()

    assert len(aws.object_keys("12025550123/")) == 21


def test_a_pass_that_dies_goes_on_behind_the_last_page_that_it_was_done_with(aws, elevenlabs, backlog):
    times = count()

    def die() -> bool:
        if next(times) == 1 + 3 + 3 + 2:  # the sweep, two pages of two calls, and the third to its end
            raise Crash
        return True

    with pytest.raises(Crash):
        reconcile(NOW, die)
    first = len(lists(elevenlabs))

    run(NOW + HOUR)

    assert int(lists(elevenlabs)[first]) < int(lists(elevenlabs)[0])


def test_a_list_that_breaks_off_goes_on_there_in_the_next_pass(aws, elevenlabs, backlog):
    elevenlabs.plan("list", "ok", "ok", *["503"] * 4)
    assert "error" in run(NOW)
    failed = len(lists(elevenlabs))

    report = run(NOW + HOUR / 2)

    assert report["outcomes"] == {"fetched": 16, "on_its_way": 1}  # the last one of the page before is listed again
    assert int(lists(elevenlabs)[failed]) < int(lists(elevenlabs)[0])


def test_a_page_for_which_no_time_was_left_is_the_first_one_of_the_next_pass(aws, elevenlabs, backlog):
    times = count()

    report = reconcile(NOW, lambda: next(times) < 2)  # one of them for the sweep

    assert report["outcomes"] == {"fetched": 1, "no_time": 1}
    assert run(NOW + HOUR / 2)["outcomes"] == {"fetched": 19, "on_its_way": 1}


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_is_none_is_refused_like_a_wrong_one(aws, elevenlabs, key):
    boto3.client("secretsmanager").put_secret_value(SecretId="elevenlabs", SecretString=key)

    assert "the key contains characters that no key has" in run()["error"]
    assert elevenlabs.requests == []


def test_two_passes_at_the_same_moment_use_one_attempt_up(aws, elevenlabs):
    elevenlabs.add(conversation())
    run()
    call = replace(reconciler.handler.aws().records.get("conv_1"), fetches=0)

    reconciler.handler.aws().records.note_fetch(call, utc(NOW))

    assert aws.call("conv_1")["fetches"] == 1


def test_recordings_that_are_being_fetched_are_not_asked_for_every_hour(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()

    asked = []
    for hours in range(1, 6):
        run(NOW + hours * HOUR)
        asked.append(len(audio_asked_for(aws)))

    assert asked == [1, 0, 0, 1, 0]


def test_audio_that_is_still_missing_is_asked_for_again(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()

    report = run(NOW + HOUR)

    assert report["missing_audio"] == 1
    assert audio_asked_for(aws) == ["conv_1"]


def test_a_call_whose_recording_is_missing_for_longer_than_the_window_is_asked_for_too(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()

    report = run(NOW + timedelta(days=9))

    assert (report["missing_audio"], audio_asked_for(aws)) == (1, ["conv_1"])
    assert report["oldest"] == utc(NOW - 3 * HOUR)


@pytest.fixture
def silent(aws, elevenlabs, archive_all):
    """A call that is archived without its recording; the pass an hour later asks for it."""
    elevenlabs.add(conversation(has_audio=True))
    run()
    archive_all()


def test_a_recording_that_is_given_up_while_a_pass_is_at_work_is_not_asked_for_again(aws, silent):
    times = count()

    def give_up() -> bool:
        if next(times) == 1:  # after the list was read, when the missing recordings are known
            reconciler.handler.aws().records.mark_audio_unavailable("conv_1")
        return True

    reconcile(NOW + HOUR, give_up)

    assert (aws.call("conv_1")["audio"], audio_asked_for(aws)) == ("unavailable", [])


def test_a_recording_is_noted_before_it_is_asked_for_and_whoever_dies_between_asks_again_later(aws, silent):
    def crash(**_: object) -> None:
        raise Crash

    events = reconciler.handler.aws().sqs.meta.events
    events.register_first("before-call.sqs.SendMessage", crash, unique_id="crash")
    with pytest.raises(Crash):
        run(NOW + HOUR)
    events.unregister("before-call.sqs.SendMessage", unique_id="crash")
    assert aws.call("conv_1")["audio_asked_at"] == utc(NOW + HOUR)

    asked = []
    for hours in range(2, 6):
        run(NOW + hours * HOUR)
        asked.append(len(audio_asked_for(aws)))

    assert asked == [0, 0, 1, 0]


def test_a_recording_is_asked_for_though_the_answer_to_the_note_was_lost(aws, silent, lost_answers):
    run(NOW + HOUR)

    assert audio_asked_for(aws) == ["conv_1"]


def test_audio_that_is_parked_for_a_day_is_counted(aws, context, capsys):
    audio = {
        "type": "post_call_audio",
        "event_timestamp": 1,
        "data": {"conversation_id": "conv_1", "full_audio": "SUQz"},
    }
    lambda_handler(sqs_event(stage(aws, audio)), context)
    now = datetime.now(timezone.utc)

    assert [run(now + timedelta(hours=hours))["parked_long"] for hours in (23, 25)] == [0, 1]

    lambda_handler(sqs_event(stage(aws, {"type": "post_call_transcription", "data": conversation()})), context)
    assert run(now + timedelta(hours=26))["parked_long"] == 0


def test_a_call_without_audio_is_whole(aws, elevenlabs, archive_all):
    elevenlabs.add(conversation(has_audio=False))
    run()
    archive_all()

    assert run(NOW + HOUR)["missing_audio"] == 0
    assert audio_asked_for(aws) == []


def test_without_a_key_there_is_the_sweep_alone(aws, logs):
    assert run() == {"at": utc(NOW), "swept": 0, "parked_long": 0}

    assert "nothing is fetched without the parameter ElevenLabsApiKey" in logs.getvalue()


def test_logs_hold_no_number_and_nothing_of_what_was_said(aws, elevenlabs, archive_all, logs):
    elevenlabs.add(conversation())
    elevenlabs.plan("get", "html")
    run()
    run(NOW + HOUR)

    assert "Reconciled" in logs.getvalue()
    for private in ("2025550123", "mooring", "xi-test"):
        assert private not in logs.getvalue()


def test_the_metrics_of_completeness_are_there_in_every_pass(aws, elevenlabs, context, capsys):
    from reconciler.handler import lambda_handler as handler

    elevenlabs.add(conversation())
    context.get_remaining_time_in_millis = lambda: 900_000

    handler({}, context)

    (written,) = [line for line in capsys.readouterr().out.splitlines() if '"MissingCalls"' in line]
    metrics = json.loads(written)
    names = ("MissingCalls", "MissingAudio", "OldestUnarchivedAge", "StagedSwept", "WebhookTrouble")
    assert {name: metrics[name] for name in names if name in metrics}.keys() == set(names)


@pytest.fixture
def selective(aws, elevenlabs, monkeypatch):
    """Only calls of 30 s and more, of one agent, are kept."""
    monkeypatch.setenv("MINIMUM_CALL_SECONDS", "30")
    monkeypatch.setenv("AGENT_IDS", "agent_ours")
    forget()


def of(seconds: int, agent: str = "agent_ours", name: str = "conv_1"):
    data = conversation(name, agent_id=agent)
    return data | {"metadata": data["metadata"] | {"call_duration_secs": seconds}}


def test_calls_that_are_not_kept_are_passed_over_and_not_missed(aws, elevenlabs, selective):
    elevenlabs.add(of(29, name="conv_short"))
    elevenlabs.add(of(60, "agent_other", name="conv_other"))
    elevenlabs.add(of(30, name="conv_ours"))

    report = run()

    assert (report["missing_calls"], report["left_out"], report["outcomes"]) == (1, 2, {"fetched": 1})
    assert [request.conversation_id for request in elevenlabs.requests if request.route == "get"] == ["conv_ours"]


def test_a_call_that_the_archiver_left_out_is_never_fetched_whatever_the_list_says(aws, elevenlabs, selective, context):
    left_out = {"type": "post_call_transcription", "event_timestamp": 1, "data": of(3)}
    assert lambda_handler(sqs_event(stage(aws, left_out)), context) == {"batchItemFailures": []}
    elevenlabs.add(of(60))

    reports = [run(NOW + hours * HOUR) for hours in range(2)]

    assert [(report["missing_calls"], report["left_out"], report["oldest"]) for report in reports] == [(0, 1, None)] * 2
    assert "get" not in [request.route for request in elevenlabs.requests]


def test_a_call_whose_audio_waits_is_fetched_for_the_archiver_to_drop_both(
    aws, elevenlabs, selective, archive_all, context
):
    data = {"conversation_id": "conv_1", "full_audio": "SUQz"}
    lambda_handler(sqs_event(stage(aws, {"type": "post_call_audio", "event_timestamp": 1, "data": data})), context)
    elevenlabs.add(of(3))

    run()
    archive_all()

    assert aws.object_keys() == aws.object_keys("staging/") == set()
    assert "parked" not in aws.call("conv_1")
    assert run(NOW + HOUR)["missing_calls"] == 0
