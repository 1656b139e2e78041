"""The workflow that deploys: what it trusts, and whether it has the time."""

import re
from typing import Any

import pytest
import yaml

from scripts.embedded.deployment import ROOT
from tests.alarms import translated
from tests.test_examples import shown

Json = dict[str, Any]

WORKFLOW = ROOT / ".github" / "workflows" / "deploy.yml"
JOBS: dict[str, Json] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
SESSION = 60  # minutes: what aws-actions/configure-aws-credentials asks for unless it is told otherwise
REST = 15  # minutes for the other resources, and to set the job up

# IAM user guide, "AWS OIDC federation" and "identity-provider-specific claims" of GitHub.
CLAIMS = """
    aud sub actor actor_id enterprise_id environment job_workflow_ref ref repository repository_id workflow
"""


def actions(job: str) -> dict[str, Json]:
    """The actions that a job uses, with their inputs, by name."""
    return {each["uses"].split("@")[0]: each.get("with", {}) for each in JOBS[job]["steps"] if "uses" in each}


def commands(job: str) -> list[str]:
    return [each["run"] for each in JOBS[job]["steps"] if "run" in each]


def minutes(choice: str) -> int:
    """How long webhooks take to go over to a new version, by the name of CodeDeploy's configuration."""
    if part := re.fullmatch(r"Canary10Percent(\d+)Minutes", choice):
        return int(part[1])
    if part := re.fullmatch(r"Linear10PercentEvery(\d+)Minutes?", choice):
        return 9 * int(part[1])  # after the first tenth
    assert choice in ("off", "AllAtOnce")
    return 0


@pytest.mark.parametrize("choice", translated()["Parameters"]["GradualDeployment"]["AllowedValues"])
def test_every_gradual_deployment_ends_within_the_job_and_the_roles_session(choice):
    test_call = int(translated()["Resources"]["CanaryFunction"]["Properties"]["Timeout"]) / 60

    assert "role-duration-seconds" not in actions("deploy")["aws-actions/configure-aws-credentials"]
    assert minutes(choice) + test_call + REST <= min(JOBS["deploy"]["timeout-minutes"], SESSION)


def test_only_the_job_that_deploys_main_may_ask_for_the_role():
    can = {name for name, job in JOBS.items() if "id-token" in job.get("permissions", {})}

    assert can == {"deploy"}
    assert "github.ref == 'refs/heads/main'" in JOBS["deploy"]["if"]
    assert JOBS["deploy"]["environment"] == "production"
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {"contents": "read"}


def test_the_job_that_may_ask_for_the_role_builds_nothing_and_installs_the_sam_cli_alone():
    run = "\n".join(commands("deploy"))

    assert re.findall(r"make (\S+)", run) == [".venv-sam/ready", "deploy"]
    assert "BUILT=.aws-sam/build/template.yaml" in run  # or make deploy would build the packages here
    assert not re.search(r"\bpip\b|\buv\b|pytest|sam build|scripts/", run)


def test_what_is_deployed_is_what_the_other_job_built():
    uploaded, downloaded = actions("build")["actions/upload-artifact"], actions("deploy")["actions/download-artifact"]

    assert any(each.startswith("make build") for each in commands("build"))
    assert set(JOBS["deploy"]["needs"]) == {"test", "build"}
    assert (uploaded["name"], uploaded["path"]) == (downloaded["name"], downloaded["path"])
    assert uploaded["path"] == ".aws-sam/build"  # whose template the deployment is given
    assert uploaded["include-hidden-files"] is True  # or nothing below .aws-sam goes along
    assert uploaded["if-no-files-found"] == "error"


def test_every_action_is_pinned_by_a_commit():
    used = [each["uses"] for job in JOBS.values() for each in job["steps"] if "uses" in each]

    assert used
    assert [each for each in used if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", each)] == []


def test_the_trust_in_the_readme_is_for_main_alone_and_by_claims_that_aws_knows():
    trust = shown("AssumeRoleWithWebIdentity")
    provider = "token.actions.githubusercontent.com"

    (operator,) = trust["Condition"]
    claims = {name.removeprefix(f"{provider}:"): value for name, value in trust["Condition"][operator].items()}

    assert trust["Principal"]["Federated"].endswith(f":oidc-provider/{provider}")
    assert operator == "StringEquals"
    assert claims["aud"] == "sts.amazonaws.com"
    assert claims["sub"].endswith(":environment:production")
    assert claims["ref"] == "refs/heads/main"
    assert set(claims) <= set(CLAIMS.split())
