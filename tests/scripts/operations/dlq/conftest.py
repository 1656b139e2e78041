"""Dead letters as the functions, SNS and SQS leave them."""

import json
from typing import Any

from tests.conftest import Stack

CALLER = "+12025550123"


POISON = {"step": "webhook", "error": "The body is not JSON."}


UNKNOWN = "The function's log has no reason. The function was killed, or the log is deleted."


DEAD = {"archive": "ArchiveDlqUrl", "memory": "MemoryDlqUrl", "audio": "AudioDlqUrl"}


def put_dead_letter(stack: Stack, body: str, queue: str = "archive", **attributes: str) -> None:
    """Put a message into a dead-letter queue. Functions and SNS attach attributes, SQS does not."""
    stack.sqs.send_message(
        QueueUrl=stack.outputs[DEAD[queue]], MessageBody=body,
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()},
    )  # fmt: skip


def call(conversation_id: str) -> dict[str, Any]:
    number = {"phone_call": {"external_number": CALLER}}
    return {"type": "post_call_transcription", "data": {"conversation_id": conversation_id, "metadata": number}}


def announcement(conversation_id: str) -> str:
    key = f"{CALLER[1:]}/{conversation_id}.json"
    return json.dumps({"conversation_id": conversation_id, "external_number": CALLER, "source_key": key})


def envelope(message: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "Message": message})


def bodies(stack: Stack, output: str) -> list[str]:
    return [message["Body"] for message in stack.take(output)]
