"""How many webhooks are accepted, from where, and where the functions run."""

from scripts.webhooks import send
from tests.alarms import Deployed, translated
from tests.conftest import fixture_body
from tests.options import OPTIONS, WITH_ALL_FUNCTIONS
from tests.template.stacks import INTERFACES, Json, rights_to, stack_of


def test_the_endpoint_accepts_as_many_webhooks_as_its_parameters_say_within_an_accounts_quota():
    def limits(**parameters: str) -> Json:
        (stage,) = (
            each for each in Deployed(**parameters).of("AWS::ApiGatewayV2::Stage").values() if each["ApiId"] == "Api"
        )
        return dict(stage["DefaultRouteSettings"])

    assert limits() == {"ThrottlingRateLimit": 500, "ThrottlingBurstLimit": 1000}
    chosen = {"ThrottlingRateLimit": "10000", "ThrottlingBurstLimit": "5000"}
    assert limits(**chosen) == chosen
    most = {name: str(translated()["Parameters"][name]["MaxValue"]) for name in chosen}
    assert most == chosen  # API Gateway's quotas of an account and region


PUBLISHED = {
    "34.67.146.145", "34.59.11.47", "35.204.38.71", "34.147.113.54", "35.185.187.110", "35.247.157.189",
    "34.77.234.246", "34.140.184.144", "34.93.26.174", "34.93.252.69", "34.87.23.17", "34.126.179.103",
}  # fmt: skip


def ingest_settings(**parameters: str) -> Json:
    return dict(Deployed(**parameters).of("AWS::Lambda::Function")["IngestFunction"]["Environment"]["Variables"])


def test_by_default_the_published_addresses_are_allowed_and_others_are_not_refused():
    environment = ingest_settings()

    assert environment["SOURCE_ADDRESSES"] == "off"
    assert set(environment["ALLOWED_SOURCES"].split(",")) == PUBLISHED


def test_chosen_addresses_are_allowed_besides_the_published_ones():
    """The published ones are not the default: a stack keeps its defaults, and would not get new ones by an upgrade."""
    chosen = {"203.0.113.7", "198.51.100.0/24"}

    environment = ingest_settings(AllowedSources=",".join(chosen))

    assert set(environment["ALLOWED_SOURCES"].split(",")) == PUBLISHED | chosen
    assert translated()["Parameters"]["AllowedSources"]["Default"] == ""


def test_the_filter_refuses_a_correctly_signed_webhook_from_another_address(emulator):
    deployed = stack_of(emulator, {"SourceAddresses": "filter"})

    response = send(deployed.outputs["PostCallUrl"], deployed.outputs["WebhookSecret"], fixture_body("02"))

    assert response.status_code == 401
    assert deployed.object_keys("staging/") == set()


def test_all_functions_join_the_vpc_and_have_the_rights_for_it():
    functions = Deployed(**OPTIONS["VPC"], **WITH_ALL_FUNCTIONS).of("AWS::Lambda::Function")
    roles = {name.replace("Function", "Role") for name in functions}

    assert {str(function["VpcConfig"]) for function in functions.values()} == {
        str({"SubnetIds": ["subnet-01234567", "subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-01234567"]})
    }
    join = {(action, "*") for action in INTERFACES}
    assert rights_to("ec2", **OPTIONS["VPC"], **WITH_ALL_FUNCTIONS) == dict.fromkeys(roles, join)


def test_without_a_vpc_no_role_may_touch_network_interfaces():
    assert rights_to("ec2", **WITH_ALL_FUNCTIONS) == {}
    assert all("VpcConfig" not in each for each in Deployed(**WITH_ALL_FUNCTIONS).of("AWS::Lambda::Function").values())
