"""Says on CallArchivedTopic what is archived."""

from dataclasses import replace
from typing import Any, Literal, cast

from shared import keys
from shared.messages import Announcement, Audio
from shared.record import Call


class Announcer:
    """Publishes announcements. Subscribers get one now and then twice, for a retry announces again."""

    def __init__(self, sns: Any, topic_arn: str) -> None:
        self._sns, self._topic_arn = sns, topic_arn

    def say(
        self, event: Literal["transcript_archived", "audio_archived"], call: Call, source_key: str | None = None
    ) -> None:
        """Announce the call as its record has it, to be read from `source_key` if not from its JSON."""
        announcement = Announcement(
            event,
            call.conversation_id,
            call.agent_id,
            call.external_number,
            order=str(call.t_order),
            source_key=source_key or str(call.json_key),
            json_key=call.json_key,
            mp3_key=call.mp3_key,
            audio=cast(Audio, call.audio or "pending"),
        )
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
