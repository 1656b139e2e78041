"""A recording is transcribed once, and its words are kept beside the call."""

import json

import pytest
from botocore.exceptions import ClientError

import transcriber.handler
from shared.transcription import turns_of
from tests.alarms import emitted
from tests.transcriber.conftest import ORDER, RESULT, SUBTITLES, archive, named, results, spoken, state_of

KEPT = {"12025550123/conv_1.transcribe.json", "12025550123/conv_1.vtt"}


def test_an_announced_recording_is_given_to_amazon_transcribe(aws, amazon, transcribe):
    announced = archive(aws)

    assert transcribe(announced) == []

    (name,) = amazon.jobs
    job = amazon.request(name)
    assert job.media == {"MediaFileUri": f"s3://{aws.bucket}/12025550123/conv_1.mp3"}
    assert (job.identify_language, job.language_code) == (True, None)
    assert job.settings == {"ShowSpeakerLabels": True, "MaxSpeakerLabels": 2}
    assert job.subtitles["Formats"] == ["vtt"]
    assert job.output_key.startswith("transcribe/conv_1/")
    assert state_of(aws).state == "started"
    (later,) = aws.take("TranscribeQueueUrl")
    assert json.loads(later["Body"]) == {"TranscriptionJobName": name}


def test_the_longest_id_gives_a_name_that_amazon_transcribe_accepts(aws, amazon, transcribe):
    transcribe(archive(aws, "c" * 128))

    (name,) = amazon.jobs
    assert len(name) <= 200


def test_the_results_of_a_job_are_kept_in_the_calls_folder_and_its_traces_go(aws, amazon, transcribe, capsys):
    transcribe(archive(aws))
    (name,) = amazon.jobs
    ended = amazon.complete(name)
    capsys.readouterr()

    assert transcribe(ended) == []

    assert results(aws) == KEPT
    assert aws.body("12025550123/conv_1.transcribe.json") == RESULT
    assert aws.body("12025550123/conv_1.vtt") == SUBTITLES
    assert aws.tags("12025550123/conv_1.vtt") == {"tier": "archive"}
    head = aws.head("12025550123/conv_1.transcribe.json")
    assert head["ContentType"] == "application/json"
    assert (head["Metadata"]["order"], head["Metadata"]["job"]) == (ORDER, name)
    assert state_of(aws).state == "done"
    assert aws.call("conv_1")["event_keys"] == KEPT
    assert aws.versions("transcribe/") == set()
    assert amazon.jobs == []
    counted = {metric[1]: values for metric, values in emitted(capsys.readouterr().out).items()}
    assert (counted["TranscribedSeconds"], counted["TranscriptionDone"]) == ([15], [1])


def test_the_call_is_announced_once_more_to_the_indexer_alone(aws, amazon, transcribe):
    transcribe(archive(aws))

    transcribe(amazon.complete(*amazon.jobs))

    (announced,) = aws.announcements()
    assert (announced["event"], announced["source_key"]) == ("transcript_archived", "12025550123/conv_1.json")


@pytest.mark.parametrize(("words", "jobs"), [("Where is my refund?", 0), ("...", 1), ("", 1)])
def test_only_calls_without_words_are_transcribed_if_the_stack_says_so(
    aws, amazon, transcribe, monkeypatch, words, jobs
):
    monkeypatch.setenv("TRANSCRIBE", "missing")

    assert transcribe(archive(aws, words=words)) == []

    assert len(amazon.jobs) == jobs


def test_a_recording_whose_call_has_no_json_yet_waits_for_it(aws, amazon, transcribe, monkeypatch):
    monkeypatch.setenv("TRANSCRIBE", "missing")
    announced = archive(aws)
    aws.s3.delete_object(Bucket=aws.bucket, Key="12025550123/conv_1.json")

    assert transcribe(announced) == ["message-1"]

    assert amazon.jobs == []


def test_a_repeated_announcement_starts_no_other_job(aws, amazon, transcribe):
    announced = archive(aws)

    assert transcribe(announced, announced) == []
    assert len(amazon.jobs) == 1
    transcribe(amazon.complete(*amazon.jobs))
    assert transcribe(announced) == []

    assert amazon.jobs == []
    assert state_of(aws).state == "done"


def test_an_event_that_comes_twice_changes_nothing(aws, amazon, transcribe):
    transcribe(archive(aws))
    ended = amazon.complete(*amazon.jobs)

    assert transcribe(ended, ended) == []

    assert results(aws) == KEPT
    assert len(aws.versions()) == 4
    assert aws.take("TranscribeDlqUrl") == []


def test_a_newer_version_of_a_recording_has_a_job_of_its_own(aws, amazon, transcribe):
    announced = archive(aws)
    transcribe(announced)
    (older,) = amazon.jobs
    aws.s3.put_object(
        Bucket=aws.bucket, Key="12025550123/conv_1.mp3", Body=b"ID3 more", Metadata={"order": "2" + ORDER[1:]}
    )

    transcribe(announced)

    (newer,) = set(amazon.jobs) - {older}
    assert transcribe(amazon.complete(older)) == []
    assert results(aws) == set()
    assert transcribe(amazon.complete(newer, spoken(("spk_0", "New", 0)))) == []
    assert [turn.message for turn in turns_of(aws.body("12025550123/conv_1.transcribe.json"))] == ["New"]
    assert amazon.jobs == []


def test_a_job_that_is_still_running_is_looked_at_again_later(aws, amazon, transcribe):
    transcribe(archive(aws))
    aws.take("TranscribeQueueUrl")
    (name,) = amazon.jobs
    amazon.request(name).status = "IN_PROGRESS"

    assert transcribe(named(name)) == []

    (later,) = aws.take("TranscribeQueueUrl")
    assert json.loads(later["Body"]) == {"TranscriptionJobName": name}
    assert amazon.jobs == [name]


def test_a_recording_that_is_one_too_many_comes_back_later(aws, amazon, transcribe):
    announced = archive(aws)

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "LimitExceededException", "Message": ""}}, "StartTranscriptionJob")

    events = transcriber.handler.jobs()._transcribe.meta.events
    events.register("before-call.transcribe.StartTranscriptionJob", refuse, unique_id="refuse")
    assert transcribe(announced) == []
    events.unregister("before-call.transcribe.StartTranscriptionJob", unique_id="refuse")

    (later,) = aws.take("TranscribeQueueUrl")
    assert json.loads(later["Body"]) == json.loads(announced)
    assert transcribe(later["Body"]) == []
    assert len(amazon.jobs) == 1


def test_the_job_of_another_stack_is_left_alone(aws, amazon, transcribe):
    transcribe(archive(aws))
    (name,) = amazon.jobs
    foreign = name.replace("6f1c0e52", "00000000")

    assert transcribe(named(foreign), named("another"), named(f"{name}.json")) == []

    assert amazon.jobs == [name]
    assert aws.take("TranscribeDlqUrl") == []


def test_test_calls_are_not_transcribed(aws, amazon, transcribe):
    assert transcribe(archive(aws, "canary_20261122T100000Z_0123abcd")) == []

    assert amazon.jobs == []


@pytest.mark.parametrize("message", ["not json", "[]", "{}", '{"TranscriptionJobName": 7}'])
def test_a_message_that_is_neither_goes_to_the_dead_letter_queue(aws, amazon, transcribe, message):
    assert transcribe(message) == []

    assert aws.reasons("TranscribeDlqUrl") == [("announcement", "The message is not an announcement of version 2.")]
