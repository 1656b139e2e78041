"""What `ops replay` leads to."""

import json

from shared.times import utc
from tests.scripts.operations.conftest import (
    CALLER,
    NOON,
    archive_checks,
    note,
    table,
)
from tests.scripts.operations.replay.conftest import FAST, announced, claimed


def test_force_repairs_what_an_older_archiver_wrote_wrongly(stack, run_ops_json, archive, context):
    archive("conv_1")
    key = f"{CALLER[1:]}/conv_1.json"
    right, metadata = stack.body(key), stack.head(key)["Metadata"]
    stack.s3.put_object(Bucket=stack.bucket, Key=key, Body=b"wrong", Metadata=metadata)

    run_ops_json("replay", "--conversation", "conv_1", "--yes")
    archive_checks(context, *(each["Body"] for each in stack.take("ArchiveQueueUrl")))
    kept = stack.body(key)
    run_ops_json("replay", "--conversation", "conv_1", "--force", "--yes")
    archive_checks(context, *(each["Body"] for each in stack.take("ArchiveQueueUrl")))

    assert (kept, stack.body(key)) == (b"wrong", right)


def test_with_only_memory_calls_are_sent_to_the_memory_writer_alone(stack, run_ops_json, archive):
    for number in range(4):
        archive(f"conv_{number}")
    stack.take("Announcements")
    note(stack, "conv_2", erased_at="2026-11-21T12:00:00Z")
    table(stack).update_item(Key={"conversation_id": "conv_3", "item": "call"}, UpdateExpression="REMOVE t_order")

    _, preview = run_ops_json("replay", "--caller", CALLER, "--only", "memory")
    run_ops_json("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")

    assert preview["calls"] == 2
    assert announced(stack) == ["conv_0", "conv_1"]
    assert claimed(stack) == []
    assert stack.announcements() == []


def test_with_only_memory_the_memory_writer_gets_the_archivers_announcement(stack, run_ops_json, archive):
    archive("conv_1")

    run_ops_json("replay", "--conversation", "conv_1", "--only", "memory", "--yes")

    (message,) = stack.take("MemoryQueueUrl")
    assert [json.loads(message["Body"])] == stack.announcements()


def test_with_force_a_memory_that_mem0_lost_is_written_again_and_no_other(stack, run_ops_json, mem0, archive, remember):
    archive("conv_1")
    archive("conv_2")
    remember("Announcements")
    before = mem0.memories()
    mem0.delete(before[0])
    kept = mem0.memories()

    run_ops_json("replay", "--caller", CALLER, "--only", "memory", *FAST, "--yes")
    remember("MemoryQueueUrl")
    unforced = mem0.memories()
    for item in ("memory#factual", "memory#semantic"):
        for conversation_id in ("conv_1", "conv_2"):
            note(stack, conversation_id, item, started=utc(NOON))  # long ago
    run_ops_json("replay", "--caller", CALLER, "--only", "memory", "--force", *FAST, "--yes")
    remember("MemoryQueueUrl")

    after = mem0.memories()
    assert (len(before), unforced) == (4, kept)
    assert sorted(each["memory"] for each in after) == sorted(each["memory"] for each in before)
    assert {each["id"] for each in kept} < {each["id"] for each in after}
