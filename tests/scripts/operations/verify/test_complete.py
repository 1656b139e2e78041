"""`ops verify`: a complete call has no problem."""

from shared.record import Records
from tests.scripts.operations.conftest import note, table
from tests.scripts.operations.verify.conftest import delete


def test_a_complete_call_has_no_problem(stack, run_ops_json, mem0, whole, remember):
    whole("conv_1")
    table(stack).delete_item(Key={"conversation_id": "conv_1", "item": "memory#factual"})
    table(stack).delete_item(Key={"conversation_id": "conv_1", "item": "memory#semantic"})
    remember("Announcements")

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["title"]) == (0, "1 call, 0 with a problem")
    assert "next" not in found
    assert found["rows"] == [
        {
            "call": "conv_1", "json": "archived", "mp3": "archived", "factual": "done, 1 in Mem0",
            "semantic": "done, 1 in Mem0", "problems": [],
        }
    ]  # fmt: skip


def test_expired_bodies_and_calls_without_words_or_number_are_no_problem(stack, run_ops_json, archive, whole):
    whole("conv_expired")
    for key in Records(table(stack)).get("conv_expired").staged_keys:
        delete(stack, key)
    archive("conv_wordless", transcript=[])
    note(stack, "conv_wordless", "memory#factual", state="done", memories=1)
    note(stack, "conv_wordless", "memory#semantic", state="done", reason="nothing_to_say")
    archive("conv_nobody", number="anonymous")
    archive("conv_pending", has_audio=True, number="anonymous")

    code, found = run_ops_json("verify", "--since", "2026-11-21", "--no-mem0")

    rows = {row.pop("call"): row for row in found["rows"]}
    assert (code, [row["problems"] for row in rows.values()]) == (0, [[], [], [], []])
    assert rows["conv_wordless"]["semantic"] == "nothing_to_say"
    assert (rows["conv_nobody"]["factual"], rows["conv_nobody"]["mp3"]) == ("-", "none")
    assert rows["conv_pending"]["mp3"] == "pending"


def test_an_unfinished_erasure_is_a_problem(stack, run_ops_json):
    note(stack, "conv_1", erased_at="2026-11-21T12:00:00Z", folder="12025550123")

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["json"], found["rows"][0]["problems"]) == (1, "erased", ["erasure not finished"])
    assert found["next"] == "Finish this erasure: ./scripts/ops erase --conversation conv_1 --yes --stack calls"


def test_an_erased_call_without_any_data_is_complete(stack, run_ops_json):
    note(stack, "conv_1", erased_at="2026-11-21T12:00:00Z")

    code, found = run_ops_json("verify", "conv_1")

    assert (code, found["rows"][0]["json"], found["rows"][0]["problems"]) == (0, "erased", [])
