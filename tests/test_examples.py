"""The examples in the documentation are accepted by the stack, AWS and Mem0."""

import json
import re
from typing import Any

import boto3
import pytest

from memory_writer.oss import OssBackend, open_memory
from scripts.embedded.deployment import ROOT
from shared.announcements import read_announcement
from tests.conftest import Stack
from tests.memory_writer.conftest import ALICE, call
from tests.memory_writer.conftest import config as config  # a fixture
from tests.policies import listed

Json = dict[str, Any]

# Bedrock user guide, "Model lifecycle": some models that have ended.
ENDED = """
    claude-v2 claude-instant claude-3-sonnet claude-3-opus claude-3-haiku claude-3-5-sonnet claude-3-5-haiku
    claude-3-7-sonnet claude-opus-4-20250514 titan-embed-text-v1 titan-text
"""


def examples() -> list[str]:
    """Every block of JSON in the README and in docs/."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [each for page in pages for each in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)]


def shown(word: str) -> Any:
    """The only example that contains this word."""
    (block,) = (each for each in examples() if word in each)
    return json.loads(block)


def statements(service: str) -> list[Json]:
    """What the policy for Bedrock and S3 Vectors allows of a service."""
    return [each for each in shown("bedrock:InvokeModel")["Statement"] if service in str(each["Action"])]


@pytest.mark.parametrize("block", examples())
def test_every_example_is_json(block):
    assert json.loads(block)


def test_the_example_of_an_announcement_is_one() -> None:
    announcement = read_announcement(json.dumps(shown("transcript_archived")))

    assert announcement.event == "transcript_archived"
    assert announcement.external_number == "+12025550123"


def test_mem0_takes_the_configuration_for_bedrock_and_knows_whose_model_it_names(aws: Stack) -> None:
    create_index(dimension=1024)

    with open_memory(shown("vector_store")) as store:
        parts = [type(part).__name__ for part in (store.vector_store, store.embedding_model, store.llm)]
        provider = store.llm.provider  # type: ignore[attr-defined]

    assert parts == ["S3Vectors", "AWSBedrockEmbedding", "AWSBedrockLLM"]
    assert provider == "anthropic"


def create_index(dimension: int) -> None:
    """As the commands show it."""
    vectors = boto3.client("s3vectors")
    vectors.create_vector_bucket(vectorBucketName="calls-memory")
    vectors.create_index(
        vectorBucketName="calls-memory", indexName="memories", dataType="float32", dimension=dimension,
        distanceMetric="cosine", metadataConfiguration={"nonFilterableMetadataKeys": ["data", "text_lemmatized"]},
    )  # fmt: skip


@pytest.mark.parametrize("part", ["llm", "embedder"])
def test_the_configuration_for_bedrock_names_no_model_that_has_ended(part):
    model = shown("vector_store")[part]["config"]["model"]

    assert [each for each in ENDED.split() if each in model] == []


def test_the_policy_for_bedrock_allows_the_models_of_the_configuration_and_the_first_through_its_profile_alone():
    """A geographic profile sends a request to any of its regions: it takes the right to the model in each of them."""
    llm, embedder = (shown("vector_store")[part]["config"]["model"] for part in ("llm", "embedder"))
    profile = f"arn:aws:bedrock:us-east-1:111122223333:inference-profile/{llm}"
    model = llm.removeprefix("us.")

    allowed = {
        (arn, str(each.get("Condition"))): each["Action"] for each in statements("bedrock") for arn in each["Resource"]
    }

    through_profile = str({"StringEquals": {"bedrock:InferenceProfileArn": profile}})
    assert set(allowed) == {
        (profile, "None"),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{embedder}", "None"),
        *((f"arn:aws:bedrock:{region}::foundation-model/{model}", through_profile)
          for region in ("us-east-1", "us-east-2", "us-west-2")),
    }  # fmt: skip
    assert set(allowed.values()) == {"bedrock:InvokeModel"}


def test_the_policy_for_s3_vectors_allows_what_mem0_calls(
    aws: Stack, config: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its second index, for names: what is in there an erasure would not reach, and mem0 goes on without it."""
    store = shown("vector_store")["vector_store"]
    store["config"]["embedding_model_dims"] = 256  # of the embedded model
    create_index(dimension=256)
    called: set[str] = set()
    session = boto3.Session()
    session.events.register("before-call.s3vectors", lambda model, **_: called.add(f"s3vectors:{model.name}"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    backend = OssBackend(config | {"vector_store": store})

    backend.add(call("Hello."), again=True)
    backend.delete_user(ALICE)

    allowed = {(action, each["Resource"]) for each in statements("s3vectors") for action in listed(each["Action"])}
    bucket = "arn:aws:s3vectors:us-east-1:111122223333:bucket/calls-memory"
    index = f"{bucket}/index/memories"
    query = "s3vectors:QueryVectors"  # what inference does first, and moto does not know
    assert {action for action, _ in allowed} == called | {query}
    assert {resource for action, resource in allowed if action != "s3vectors:GetVectorBucket"} == {index}
