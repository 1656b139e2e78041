"""A window that is too large for one pass continues in the next."""

from datetime import timedelta
from itertools import count

import pytest

from reconciler.handler import reconcile
from shared.times import utc
from tests.reconciler.conftest import HOUR, NOW, conversation, lists, run
from tests.schedules import Crash


@pytest.fixture
def backlog(elevenlabs, monkeypatch):
    """Ten pages of two calls, from 9 to 4 days before NOW. The last successful pass was before them."""
    monkeypatch.setattr("reconciler.elevenlabs.PAGE", 2)
    run(NOW - timedelta(days=10))
    for number in range(20):
        elevenlabs.add(conversation(f"conv_{number}", ended=timedelta(days=4) + 6 * HOUR * number, has_audio=False))
    elevenlabs.requests.clear()


def run_pages(elevenlabs, number: int, now=NOW):
    """A pass with time for this number of pages."""
    before = len(lists(elevenlabs))
    return reconcile(now, lambda: len(lists(elevenlabs)) - before <= number)


def test_a_window_too_large_for_one_pass_continues_in_the_next_until_all_is_archived(
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


def test_a_call_seen_unfinished_in_a_large_window_is_in_the_next_window(aws, elevenlabs, archive_all, backlog):
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


def test_calls_that_arrive_during_a_backlog_are_in_the_next_window(aws, elevenlabs, archive_all, backlog):
    run_pages(elevenlabs, 4)
    elevenlabs.add(conversation("conv_new", ended=-HOUR, has_audio=False))

    for hours in range(3, 12):
        run_pages(elevenlabs, 4, NOW + hours * HOUR)
        archive_all()

    assert len(aws.object_keys("12025550123/")) == 21


def test_after_a_crash_the_pass_continues_after_the_last_finished_page(aws, elevenlabs, backlog):
    times = count()

    def die() -> bool:
        if next(times) == 1 + 3 + 3 + 2:  # the sweep, two pages of two calls, and the whole third page
            raise Crash
        return True

    with pytest.raises(Crash):
        reconcile(NOW, die)
    first = len(lists(elevenlabs))

    run(NOW + HOUR)

    assert int(lists(elevenlabs)[first]) < int(lists(elevenlabs)[0])


def test_after_an_interrupted_list_the_next_pass_continues_there(aws, elevenlabs, backlog):
    elevenlabs.plan("list", "ok", "ok", *["503"] * 4)
    assert "error" in run(NOW)
    failed = len(lists(elevenlabs))

    report = run(NOW + HOUR / 2)

    assert report["outcomes"] == {"fetched": 16, "on_its_way": 1}  # the last call of the previous page is listed again
    assert int(lists(elevenlabs)[failed]) < int(lists(elevenlabs)[0])


def test_a_page_without_time_is_the_first_of_the_next_pass(aws, elevenlabs, backlog):
    times = count()

    report = reconcile(NOW, lambda: next(times) < 2)  # one of them for the sweep

    assert report["outcomes"] == {"fetched": 1, "no_time": 1}
    assert run(NOW + HOUR / 2)["outcomes"] == {"fetched": 19, "on_its_way": 1}
