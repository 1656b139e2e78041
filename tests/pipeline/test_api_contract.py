"""The running API answers what its OpenAPI document allows, and much that it does not, as the document says.

One rule is left out: to another method, an HTTP API answers 404 and not 405, before its function is asked.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from scripts.embedded.aws import REGION, ROOT, ROOT_KEY
from tests.conftest import fixture_body
from tests.pipeline.conftest import Pipeline

KNOWN = {"id": "conv_fixture00000000000000000full", "number": "+12025550123"}
schema = schemathesis.openapi.from_path(ROOT / "docs/openapi.json")


class Signed(requests.auth.AuthBase):
    """The operator's signature, over the request as it is sent."""

    def __call__(self, request: Any) -> Any:
        signed = AWSRequest(request.method, request.url, headers={"Accept": "application/json"}, data=request.body)
        SigV4Auth(Credentials(ROOT_KEY, ROOT_KEY), "execute-api", REGION).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


@pytest.fixture(scope="module")
def url(pipeline: Pipeline) -> Iterator[str]:
    """The address of an API that has a call with its recording."""
    for name in ("02", "08"):
        assert pipeline.post(fixture_body(name)).status_code == 200
    pipeline.settle()
    return pipeline.outputs["ApiUrl"]


@schema.parametrize()
@settings(max_examples=25, deadline=timedelta(seconds=20), suppress_health_check=list(HealthCheck), derandomize=True)
def test_the_api_answers_as_its_document_says(case: schemathesis.Case, url: str) -> None:
    if case.meta and case.meta.generation.mode.is_positive:  # what is generated does not exist
        case.path_parameters = {name: KNOWN[name] for name in case.path_parameters or {}}
    response = case.call(base_url=url, auth=Signed(), timeout=20)

    excluded = [positive_data_acceptance] if is_beyond_schema(response) else []
    case.validate_response(response, excluded_checks=[unsupported_method, *excluded])


def is_beyond_schema(response: Any) -> bool:
    """Whether it was refused for a reason that no schema can express: another cursor, two limits, no words."""
    told = response.json() if response.status_code == 400 else {}
    return told.get("parameter") == "cursor" or any(
        text in told.get("detail", "") for text in (" must not be ", "q must have ")
    )
