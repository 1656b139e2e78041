"""The memories of an erased caller."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from shared.times import utc
from tests.conftest import close_clients
from tests.mem0_stand_in import HostedMem0
from tests.scripts.operations.conftest import (
    CALLER,
    note,
)
from tests.scripts.operations.erasure.conftest import OTHER, call, point_to, remembered

pytestmark = [  # the tool ends without closing its connections to Mem0 and ElevenLabs
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_the_memories_of_a_callers_other_calls_stay(keep, remember, hosted, erase):
    keep(call("conv_1"), call("conv_2"))
    remember("Announcements")
    assert len(hosted.memories(CALLER)) == 4

    code, certificate = erase("--conversation", "conv_1")

    assert (code, certificate["deleted"]["memories"]) == (0, 2)
    assert {each["metadata"]["conversation_id"] for each in hosted.memories(CALLER)} == {"conv_2"}


def test_a_number_with_other_calls_stays_a_user_of_mem0(keep, remember, hosted, erase):
    keep(call("conv_1"))
    remember("Announcements")
    keep(call("conv_2"))  # its memories are on their way

    erase("--conversation", "conv_1")

    assert hosted.memories(CALLER) == []
    assert not [target for method, target, _ in hosted.requests if "/entities/" in target]


def test_memories_of_a_client_id_and_of_a_changed_number_are_deleted_too(keep, remember, hosted, erase):
    keep(call("conv_1", None, user_id="anna"), call("conv_2", OTHER))
    remember("Announcements")
    keep(call("conv_1") | {"event_timestamp": 9}, call("conv_2") | {"event_timestamp": 9})
    assert (len(hosted.memories("user:anna")), len(hosted.memories(OTHER))) == (2, 2)

    code, _ = erase(CALLER)

    assert (code, hosted.memories("user:anna"), hosted.memories(OTHER)) == (0, [], [])


def test_a_memory_that_mem0_may_show_later_is_named_and_found_by_a_second_run(stack, keep, hosted, erase):
    now = datetime.now(timezone.utc)
    keep(call("conv_1", None, user_id="anna"))
    note(stack, "conv_1", "memory#factual", state="sending", started=f"{now:%Y-%m-%dT%H:%M:%S.%fZ}")

    code, first = erase("--conversation", "conv_1")
    remembered(hosted, "user:anna", "conv_1")
    note(stack, "conv_1", "memory#factual", started=f"{now - timedelta(hours=2):%Y-%m-%dT%H:%M:%S.%fZ}")
    again, second = erase("--conversation", "conv_1")

    (doubt,) = (each for each in first["remains"] if each["what"] == "conv_1")
    assert (code, first["complete"], first["deleted"]["calls"]) == (1, False, 0)
    assert doubt["until"] == f"{utc(now + timedelta(hours=1))}. Then run the same command again"
    assert (again, second["complete"], hosted.memories("user:anna")) == (0, True, [])


def test_a_memory_that_mem0_accepted_and_does_not_show_yet_is_named(keep, remember, hosted, erase, monkeypatch):
    monkeypatch.setattr("scripts.operations.erasure.memories.MEM0_SECONDS", 0)
    keep(call("conv_1"))
    hosted.delay = 1000
    remember("Announcements")  # the factual memory is answered at once, and nobody can delete it yet

    code, first = erase("--conversation", "conv_1")
    hosted.settle()
    again, second = erase("--conversation", "conv_1")

    assert (code, first["complete"]) == (1, False)
    assert "conv_1" in {each["what"] for each in first["remains"]}
    assert (again, second["complete"], hosted.memories(CALLER)) == (0, True, [])


class Forgetless(HostedMem0):
    """Answers that it deletes, but does not."""

    def _delete(self, *_: Any) -> Any:
        return {"message": "Memory deleted successfully!"}

    _delete_user = _delete


def test_memories_that_mem0_does_not_delete_are_no_erasure(stack, keep, remember, failed, monkeypatch):
    monkeypatch.setattr("scripts.operations.erasure.memories.MEM0_SECONDS", 0)
    with Forgetless() as mem0:
        point_to(mem0, stack, monkeypatch)
        keep(call("conv_1"))
        remember("Announcements")

        answer = failed("--conversation", "conv_1")
        close_clients()

    assert answer == (1, "Mem0 still has memories that it should have deleted. Run the same command again.")
    assert stack.object_keys() == {f"{CALLER[1:]}/conv_1.json"}  # by which they are found again


def test_a_stack_without_mem0_says_that_it_cannot_look_there(keep, erase, run_ops_json):
    keep(call("conv_1"))

    _, found = run_ops_json("erase", CALLER)
    code, certificate = erase(CALLER)

    assert found["in_mem0"] == "the stack has no Mem0"
    assert (code, certificate["complete"]) == (0, True)
    assert "memories in a Mem0 that the stack used before" in {each["what"] for each in certificate["remains"]}
