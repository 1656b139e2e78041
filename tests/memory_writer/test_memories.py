"""What the two memories of a call contain, and under which user."""

import pytest

from memory_writer.memories import facts, find_user, turns
from shared.call import Call
from tests.memory_writer.conftest import conversation


@pytest.mark.parametrize(
    ("number", "fields", "user_id"),
    [
        ("+12025550123", {"user_id": "crm-1"}, "+12025550123"),
        ("12025550123", {}, "12025550123"),
        (None, {"user_id": "crm-1"}, "user:crm-1"),
        (None, {"user_id": "+12025550123"}, "user:+12025550123"),
        (None, {"conversation_initiation_client_data": {"user_id": "web-1"}}, "user:web-1"),
        (None, {"user_id": "two words"}, "user:two%20words"),
        (None, {"user_id": ""}, None),
        (None, {}, None),
    ],
    ids=str,
)  # fmt: skip
def test_memories_belong_to_the_caller_and_never_to_a_number_that_a_client_named(number, fields, user_id):
    assert find_user(Call("conv_1", external_number=number), conversation(**fields)) == user_id


def test_turns_keep_their_roles_and_order_and_turns_without_words_are_left_out():
    transcript = [
        {"role": "agent", "message": " Hello. "}, {"role": "user", "message": "..."}, {"role": "user", "message": "…"},
        {"role": "user", "content": "سلام 🙂"}, {"role": "agent", "message": None}, None,
        {"role": "agent", "message": ""},
    ]  # fmt: skip

    assert turns(conversation(transcript=transcript)) == [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "سلام 🙂"},
    ]


@pytest.mark.parametrize(
    ("analysis", "text"),
    [
        ({"summary": "Sam called.", "evaluation": {"rationale": "Greeted."}}, "Sam called.\nevaluation: Greeted."),
        ({"transcript_summary": "Sam called."}, "Sam called."),
        ({"evaluation_criteria_results": {"a": {"result": "success", "rationale": None}, "b": {}}}, "a: success."),
    ],
    ids=["legacy", "summary only", "criteria only"],
)
def test_facts_are_the_summary_and_a_line_for_each_criterion(analysis, text):
    assert facts(conversation(analysis=analysis)) == [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("analysis", [None, {}, {"transcript_summary": " "}], ids=str)
def test_no_analysis_gives_no_facts(analysis):
    assert facts(conversation(analysis=analysis)) == []
