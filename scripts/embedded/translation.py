"""template.yaml as plain CloudFormation, and a copy of it that the emulator can deploy."""

import logging
import re
import string
from collections import ChainMap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.utils.py27hash_fix import to_py27_compatible_template, undo_mark_unicode_str_in_template
from samtranslator.yaml_helper import yaml_parse

from scripts.deploy.parameters import constants
from scripts.embedded.aws import REGION, EmbeddedAwsError

API_ENDPOINT = re.compile(r"\$\{(\w+)\.ApiEndpoint\}")
TOKENS = "x-amazon-apigateway-authorizer"
NOTHING = {"Ref": "AWS::NoValue"}
CODE_BUCKET = "embedded-code"
PLACEHOLDER_CODE = "s3://code/functions.zip"

Template = dict[str, Any]


class TemplateError(EmbeddedAwsError):
    """The file is no valid SAM template."""


class ConstantError(EmbeddedAwsError):
    """A constant was given a value that is no whole number."""


class Region:
    """Stands in for a boto3 session: the translator asks it for the region and nothing else."""

    region_name = REGION


def translate(path: Path, parameters: Mapping[str, str] | None = None, code: str = PLACEHOLDER_CODE) -> Template:
    """The SAM template at `path` as plain CloudFormation, with `code` (an s3:// address) as every function's package.

    Works without network, credentials or AWS settings. `parameters` override constants, and the defaults of parameters
    where the translation itself depends on them. Raises TemplateError or ConstantError.
    """
    logging.getLogger("samtranslator").setLevel(logging.ERROR)
    try:
        template = with_constants(with_code(yaml_parse(path.read_text()), code), parameters or {})
        return transformed(template, dict(parameters or {}))
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes) or error.message
        raise TemplateError(f"{path}: {causes}") from error
    except (OSError, yaml.YAMLError) as error:
        raise TemplateError(f"{path} cannot be read: {error}") from error


def transformed(template: Template, parameters: dict[str, str]) -> Template:
    """As samtranslator's own `transform`, but without the region in this machine's AWS settings."""
    to_py27_compatible_template(template, parameters)
    translated = Translator({}, Parser(), boto_session=cast(Any, Region())).translate(template, parameters)
    return undo_mark_unicode_str_in_template(translated)


def with_constants(template: Template, parameters: Mapping[str, str]) -> Template:
    """The template with its constants written out: the values of `parameters`, else its own.

    cfn-lint compares only numbers that are written out. A wrong value raises ConstantError.
    """
    values = {name: value for name, (_, value) in constants(template).items()}
    for name in values.keys() & parameters.keys():
        if not parameters[name].isdecimal():
            raise ConstantError(f"{name} must be a whole number, not {parameters[name]!r}.")
        values[name] = int(parameters[name])
    return dict(written_out(template, values))


def written_out(node: Any, values: Mapping[str, int]) -> Any:
    """A copy of a part of a template, with a number in place of each reference to a constant."""
    if isinstance(node, list):
        return [written_out(each, values) for each in node]
    if not isinstance(node, dict):
        return node
    mapping, *_, name = node.get("Fn::FindInMap", ["", ""])
    return values[name] if mapping == "Constants" else {key: written_out(each, values) for key, each in node.items()}


def with_code(template: Template, code: str) -> Template:
    """The translator accepts only packages in S3, where `sam package` would have put them."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = code
    return template


def emulate(template: Template, parameters: Mapping[str, str], endpoint_url: str) -> Template:
    """A copy of a translated template, with what the emulator lacks expressed in terms that it knows."""
    template = with_endpoint(template, endpoint_url)
    resources: Template = {}
    for name, resource in template["Resources"].items():
        if resource["Type"].startswith("AWS::CodeDeploy::"):
            continue  # the emulator has none: an alias changes at once
        if resource["Type"] == "AWS::Lambda::Alias":
            resources[name] = {key: value for key, value in resource.items() if key != "UpdatePolicy"}
        elif resource["Type"] == "AWS::ApiGatewayV2::Api" and "Body" in resource["Properties"]:
            resources |= routed_api(name, resource)
        elif resource["Type"] == "AWS::Lambda::Function":
            resources[name] = with_texts(resource)
        elif resource["Type"] == "AWS::Athena::WorkGroup":
            resources[name] = with_results(resource)
        elif resource["Type"] == "AWS::Lambda::EventSourceMapping":
            resources[name] = with_numbers(resource, template.get("Parameters", {}), parameters)
        else:
            resources[name] = without_tls(with_any_job(with_queries(with_batches(plain_secret(resource)))))
    return template | {"Resources": resources}


def with_endpoint(node: Any, endpoint_url: str) -> Any:
    """HTTP APIs answer at the emulator's own address."""
    if isinstance(node, list):
        return [with_endpoint(each, endpoint_url) for each in node]
    if isinstance(node, dict):
        return {name: with_endpoint(value, endpoint_url) for name, value in node.items()}
    return API_ENDPOINT.sub(rf"{endpoint_url}/_aws/execute-api/${{\1}}", node) if isinstance(node, str) else node


def with_numbers(node: Any, declared: Template, parameters: Mapping[str, str]) -> Any:
    """The emulator passes Number parameters on as text, and its pollers cannot compare MaximumConcurrency with text."""
    if isinstance(node, list):
        return [with_numbers(each, declared, parameters) for each in node]
    if not isinstance(node, dict):
        return node
    name = str(node.get("Ref"))
    if declared.get(name, {}).get("Type") == "Number":
        value = str(parameters.get(name, declared[name].get("Default")))
        return int(value) if value.isdecimal() else node  # the emulator itself refuses a value that is no number
    return {key: with_numbers(value, declared, parameters) for key, value in node.items()}


def with_texts(function: Template) -> Template:
    """CloudFormation turns numbers in a function's environment into text; the emulator's workers fail on them."""
    properties = function["Properties"]
    variables = properties.get("Environment", {}).get("Variables", {})
    texts = {name: str(value) if isinstance(value, int) else value for name, value in variables.items()}
    return function | {"Properties": properties | {"Environment": {"Variables": texts}}}


def with_results(workgroup: Template) -> Template:
    """The emulator keeps the results of queries in a bucket, never in a storage of its own."""
    properties = dict(workgroup["Properties"])
    configuration = dict(properties["WorkGroupConfiguration"])
    del configuration["ManagedQueryResultsConfiguration"]
    configuration["ResultConfiguration"] = {"OutputLocation": f"s3://{CODE_BUCKET}/results/"}
    return workgroup | {"Properties": properties | {"WorkGroupConfiguration": configuration}}


def routed_api(name: str, api: Template) -> Template:
    """The emulator ignores an HTTP API's OpenAPI body: give it the same routes as resources."""
    properties = dict(api["Properties"])
    body = properties.pop("Body")
    bare = api | {
        "Properties": {"Name": {"Fn::Sub": f"${{AWS::StackName}}-{name}"}, "ProtocolType": "HTTP"} | properties
    }
    schemes = body.get("components", {}).get("securitySchemes", {})
    resources: Template = {name: bare} | authorizers(name, schemes)
    for path, methods in body["paths"].items():
        for method, operation in methods.items():
            needed = [authorization(name, schemes[scheme]) for each in operation.get("security", []) for scheme in each]
            resources |= route(name, path, method, operation, needed, len(resources))
    return resources


def authorizers(api: str, schemes: Template) -> Template:
    """The resource that checks the API's tokens, where a condition may choose between tokens and signatures."""
    found = [(each["Fn::If"][0], each["Fn::If"][1][TOKENS]) for each in schemes.values() if "Fn::If" in each]
    return {
        f"{api}Authorizer": {
            "Type": "AWS::ApiGatewayV2::Authorizer",
            "Condition": condition,
            "Properties": {
                "ApiId": {"Ref": api},
                "Name": f"{api}Authorizer",
                "AuthorizerType": "JWT",
                "IdentitySource": [tokens["identitySource"]],
                "JwtConfiguration": {name.title(): value for name, value in tokens["jwtConfiguration"].items()},
            },
        }
        for condition, tokens in found
    }


def authorization(api: str, scheme: Template) -> Template:
    """The properties of a route whose requests this security scheme checks."""
    if "Fn::If" in scheme:
        condition, *choice = scheme["Fn::If"]
        then, otherwise = (authorization(api, each) for each in choice)
        names = then | otherwise
        return {name: {"Fn::If": [condition, then.get(name, NOTHING), otherwise.get(name, NOTHING)]} for name in names}
    if TOKENS in scheme:
        return {"AuthorizationType": "JWT", "AuthorizerId": {"Ref": f"{api}Authorizer"}}
    return {"AuthorizationType": "AWS_IAM"}  # the emulator checks signatures, because it runs with AUTH=true


def plain_secret(node: Any) -> Any:
    """The emulator ignores ExcludePunctuation in generated secrets, so name the characters."""
    if isinstance(node, list):
        return [plain_secret(each) for each in node]
    if not isinstance(node, dict):
        return node
    excluded = {"ExcludeCharacters": string.punctuation} if node.get("ExcludePunctuation") else {}
    return {name: plain_secret(value) for name, value in node.items()} | excluded


def with_batches(node: Any) -> Any:
    """On AWS the right to send a message covers batches of them; the emulator requires another right."""
    if isinstance(node, list):
        return [with_batches(each) for each in node]
    if not isinstance(node, dict):
        return node
    more = {"Action": ["sqs:SendMessage", "sqs:SendMessageBatch"]} if node.get("Action") == "sqs:SendMessage" else {}
    return {name: with_batches(value) for name, value in node.items()} | more


def with_any_job(node: Any) -> Any:
    """The emulator knows neither the resources nor the condition keys of Amazon Transcribe, and would deny its use."""
    if isinstance(node, list):
        return [with_any_job(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "transcribe:" in str(node.get("Action")):
        return {name: each for name, each in node.items() if name != "Condition"} | {"Resource": "*"}
    return {name: with_any_job(each) for name, each in node.items()}


def with_queries(node: Any) -> Any:
    """The emulator does not know in which workgroup a query is that is asked for by its id."""
    if isinstance(node, list):
        return [with_queries(each) for each in node]
    if not isinstance(node, dict):
        return node
    more = {"Resource": "*"} if "athena:GetQueryResults" in node.get("Action", ()) else {}
    return {name: with_queries(value) for name, value in node.items()} | more


def without_tls(resource: Template) -> Template:
    """The emulator uses plain HTTP, which a TLS-only statement would deny: leave these statements out."""
    document = resource.get("Properties", {}).get("PolicyDocument")
    if document is None:
        return resource
    kept = [statement for statement in document["Statement"] if "aws:SecureTransport" not in str(statement)]
    return resource | {"Properties": resource["Properties"] | {"PolicyDocument": document | {"Statement": kept}}}


def route(api: str, path: str, method: str, operation: Template, needed: Iterable[Template], number: int) -> Template:
    """One path and method of an OpenAPI body as the two resources that the emulator routes by."""
    integration = operation["x-amazon-apigateway-integration"]
    target = f"{api}Integration{number}"
    key = path if path == "$default" else f"{method_of(method)} {path}"
    return {
        target: {
            "Type": "AWS::ApiGatewayV2::Integration",
            "Properties": {
                "ApiId": {"Ref": api},
                "IntegrationType": "AWS_PROXY",
                "IntegrationUri": integration["uri"],
                "PayloadFormatVersion": integration["payloadFormatVersion"],
            },
        },
        f"{api}Route{number}": {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {
                "ApiId": {"Ref": api},
                "RouteKey": key,
                "Target": {"Fn::Sub": f"integrations/${{{target}}}"},
            }
            | dict(ChainMap(*needed)),
        },
    }


def method_of(name: str) -> str:
    """OpenAPI writes "any method" differently from a route key."""
    return "ANY" if name == "x-amazon-apigateway-any-method" else name.upper()
