"""SQS may store a message twice. moto never does, so this queue is the simulator's."""

from random import Random

from scripts.operations.dead_letters import HiddenMessages
from tests.faults.services.client import Client
from tests.faults.services.sqs import Sqs


def test_each_copy_of_a_message_that_sqs_stores_twice_is_read_and_deleted():
    now = [0.0]
    sqs = Sqs(lambda: now[0], Random(1))
    url, client = sqs.create_queue("dlq"), Client("sqs", sqs.call)
    client.send_message(QueueUrl=url, MessageBody="one")
    (message,) = client.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    sqs.duplicate(url, message)
    now[0] = 60.0  # both copies are visible

    hidden = HiddenMessages(client, url)
    hidden.receive()
    read = len(hidden.all)
    for each in hidden.all:
        hidden.delete(each)

    assert (read, sqs.messages(url)) == (2, [])
