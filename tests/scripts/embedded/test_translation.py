"""template.yaml as the emulator understands it."""

import json
from pathlib import Path

import pytest

from scripts.embedded.translation import TemplateError, emulate, translate
from tests.scripts.embedded.small_project import project as project


def test_only_the_emulators_copy_of_the_template_is_rewritten(project: Path) -> None:
    template = translate(project)
    before = json.dumps(template)

    resources = emulate(template, {}, "http://127.0.0.1:9")["Resources"].values()
    routes = [each for each in resources if each["Type"] == "AWS::ApiGatewayV2::Route"]

    assert [route["Properties"]["RouteKey"] for route in routes] == ["POST /post-call"]
    assert json.dumps(template) == before
    assert "Body" in template["Resources"]["Api"]["Properties"]
    assert "aws:SecureTransport" in before


def test_a_template_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "template.yaml").write_text("Resources: {F: {Type: AWS::Serverless::Function, Properties: {}}}")

    with pytest.raises(TemplateError, match=r"template\.yaml: .*F"):
        translate(tmp_path / "template.yaml")
