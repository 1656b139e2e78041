"""Says on CallArchivedTopic what is archived."""

from dataclasses import replace
from typing import Any

from shared import keys
from shared.messages import Announcement, Event
from shared.record import Call


class Announcer:
    """Publishes announcements. Subscribers get one now and then twice, for a retry announces again."""

    def __init__(self, sns: Any, topic_arn: str) -> None:
        self._sns, self._topic_arn = sns, topic_arn

    def say(self, event: Event, call: Call, source_key: str | None = None) -> None:
        """Announce the call as its record has it, to be read from `source_key` if not from its JSON."""
        announcement = Announcement.of(call, event, source_key)
        attributes = announcement.attributes().items()
        self._sns.publish(
            TopicArn=self._topic_arn,
            Message=announcement.to_json(),
            MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes},
        )

    def say_audio(self, call: Call) -> str:
        """Announce the audio that was just put into the call's folder, and return its key."""
        mp3_key = keys.call_mp3(str(call.folder), call.conversation_id)
        self.say("audio_archived", replace(call, audio="archived", mp3_key=mp3_key))
        return mp3_key
