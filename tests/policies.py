"""What the template's roles allow, what the functions call on AWS at work, and where their code calls it.

A right is an action with its resource, under its name in the template as `Deployed` has it. Keys of S3 count as their
folder: `Bucket.Arn/staging/*`, or `Bucket.Arn/*` for callers' folders, whose names are digits; the canary's as its own,
and other events about calls, whose names alone have two dots.
Items of DynamoDB that are no call's have their key in brackets: `ConversationTable.Arn[canary_*]`.
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import boto3

from canary.canary import PREFIX
from scripts.embedded.deployment import ROOT
from tests.alarms import Deployed, Json

BUCKET, TOPIC = "bucket", "arn:aws:sns:us-east-1:123456789012:CallArchivedTopic"
PHYSICAL = {"Bucket": BUCKET, "CallArchivedTopic": TOPIC}  # of what cannot bear its name in the template

# AWS's managed policy AWSLambdaVPCAccessExecutionRole has these, besides those for logs; for all resources or none.
INTERFACES = {
    "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
}  # fmt: skip

Right = tuple[str, str]  # action, resource
Site = tuple[str, str, str]  # file, function, operation


class Gap(NamedTuple):
    """What a role lacks, and what it has without need. A right to a wrong resource is both."""

    missing: set[Right]
    unused: set[Right]


def compare(stack: Deployed, function: str, called: Iterable[Right]) -> Gap:
    """How a function's role differs from what the function calls and what Lambda does in its name."""
    of_aws = {*of_lambda(stack, function), *of_options(stack, function), *of_athena(stack, function)}
    needed = widest({*called, *of_aws})
    allowed = rights(stack, role_of(stack, function))
    return Gap(needed - allowed, allowed - needed)


def widest(needed: set[Right]) -> set[Right]:
    """Without what a folder above covers too, or the whole table."""
    return {
        (action, resource) for action, resource in needed
        if not any(action == other and is_part(resource, above) for other, above in needed)
    }  # fmt: skip


PLACE = "AWS::Region:AWS::AccountId"


def is_part(resource: str, above: str) -> bool:
    in_folder = resource != above and above.endswith("/*") and resource.startswith(above[:-1])
    return in_folder or resource.startswith(f"{above}[")


# ---------------------------------------------------------------- what the template says


def role_of(stack: Deployed, function: str) -> str:
    return str(stack.of("AWS::Lambda::Function")[function]["Role"]).removesuffix(".Arn")


def rights(stack: Deployed, role: str) -> set[Right]:
    """What a role allows; denials are not counted."""
    found = set()
    for statement in statements(policies(stack, role)):
        if statement["Effect"] == "Deny":
            continue
        found |= {(action, each) for action in listed(statement["Action"]) for each in resources(statement)}
    return found


def resources(statement: Json) -> list[str]:
    """With the keys that it is for, if it is for some items of a table alone."""
    if "Condition" not in statement:
        return listed(statement["Resource"])
    if listed(statement["Action"]) == ["transcribe:StartTranscriptionJob"]:
        return listed(statement["Resource"])
    ((operator, tested),) = statement["Condition"].items()
    ((name, keys),) = tested.items()
    assert (operator, name) == ("ForAllValues:StringLike", "dynamodb:LeadingKeys")
    return [f"{each}[{key}]" for each in listed(statement["Resource"]) for key in listed(keys)]


def policies(stack: Deployed, role: str) -> list[Json]:
    """A role's policies, those that have their own resource too."""
    attached = [each for each in stack.of("AWS::IAM::Policy").values() if role in each["Roles"]]
    return present(stack.of("AWS::IAM::Role")[role].get("Policies", [])) + attached


def statements(policies: Iterable[Json]) -> Iterator[Json]:
    for policy in policies:
        yield from present(listed(policy["PolicyDocument"]["Statement"]))


def environment(stack: Deployed, function: str) -> dict[str, str]:
    variables = stack.of("AWS::Lambda::Function")[function]["Environment"]["Variables"]
    return {name: str(value) for name, value in variables.items()}


def present(values: Iterable[Any]) -> list[Any]:
    """Without what a condition left out."""
    return [each for each in values if each != "AWS::NoValue"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def mappings(stack: Deployed, function: str) -> list[Json]:
    return [each for each in stack.of("AWS::Lambda::EventSourceMapping").values() if each["FunctionName"] == function]


def is_invoked(stack: Deployed, function: str) -> bool:
    """Whether the stack has the function, and does not keep it idle."""
    is_there = function in stack.of("AWS::Lambda::Function")
    return is_there and all(mapping.get("Enabled", True) for mapping in mappings(stack, function))


def of_lambda(stack: Deployed, function: str) -> set[Right]:
    """What Lambda itself does under a function's role: write its log, and read its queues, idle ones too."""
    log = stack.of("AWS::Lambda::Function")[function]["LoggingConfig"]["LogGroup"]
    queues = [mapping["EventSourceArn"] for mapping in mappings(stack, function)]
    return {(f"logs:{action}", f"{log}.Arn") for action in ("CreateLogStream", "PutLogEvents")} | {
        (f"sqs:{action}", queue)
        for queue in queues for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
    }  # fmt: skip


def of_options(stack: Deployed, function: str) -> set[Right]:
    """What a function needs besides in a VPC, and with a key of ours, which all that it reads and writes is under.

    Who only reads needs no new keys of data.
    """
    properties = stack.of("AWS::Lambda::Function")[function]
    keys = present([properties.get("KmsKeyArn", "AWS::NoValue")])
    interfaces = INTERFACES if "VpcConfig" in properties else set()
    return {(action, "*") for action in interfaces} | {
        (f"kms:{action}", key)
        for key in keys
        for action in ("Decrypt", "GenerateDataKey")
        if (function, action) != ("ReadFunction", "GenerateDataKey")
    }


def of_athena(stack: Deployed, function: str) -> set[Right]:
    """What Athena does in the name of a function that searches: it reads the table and the files.

    moto's Athena reads nothing, so this is not recorded.
    """
    if "ATHENA_WORKGROUP" not in environment(stack, function):
        return set()
    catalog = ("catalog", "database/TextDatabase", "table/TextDatabase/TextTable")
    return {
        *(
            (f"glue:{action}", f"arn:AWS::Partition:glue:{PLACE}:{each}")
            for action in ("GetDatabase", "GetTable", "GetPartitions") for each in catalog
        ),
        ("s3:GetBucketLocation", "Bucket.Arn"),
    }  # fmt: skip


# ---------------------------------------------------------------- what the functions call


class Watch:
    """Hears every call on AWS that is made through its session while `hearing`."""

    def __init__(self) -> None:
        self.session = boto3.Session()
        self.called: set[Right] = set()
        self.sites: set[Site] = set()
        self.conflicts = 0  # that S3 is still to answer, as it does for two puts at the same moment
        self._is_hearing = False
        self.session.events.register("provide-client-params", self._hear)
        self.session.events.register("before-call.s3.PutObject", self._refuse)
        self.session.events.register("after-call.s3", self._hear_answer)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        self._is_hearing = True
        yield
        self._is_hearing = False

    def _hear(self, params: Json, model: Any, context: Json, **_: Any) -> None:
        if self._is_hearing:
            context["bucket"] = params.get("Bucket")
            self.called |= rights_for(model.service_model.signing_name, model.name, params)
            self.sites |= set(site_of(model.name))

    def _refuse(self, **_: Any) -> Any:
        if not (self._is_hearing and self.conflicts):
            return None
        self.conflicts -= 1
        return Refused, {"Error": {"Code": "ConditionalRequestConflict", "Message": ""}, "ResponseMetadata": {}}

    def _hear_answer(self, http_response: Any, context: Json, **_: Any) -> None:
        """S3 answers 404 to those who may list the bucket, and 403 to others, who would take "gone" for a fault."""
        if self._is_hearing and http_response.status_code == 404:
            self.called.add(("s3:ListBucket", bucket_arn(context["bucket"])))


class Refused:
    """An answer of S3."""

    status_code = 409


def rights_for(service: str, operation: str, params: Mapping[str, Any]) -> set[Right]:
    """What AWS asks of whoever calls this. The service authorization reference says which action each call is."""
    if service == "s3":
        return {(f"s3:{action}", s3_resource(params)) for action in s3_actions(operation, params)}
    if service == "dynamodb":
        return {(f"dynamodb:{operation}", resource) for resource in dynamodb_resources(params)}
    if service == "sqs":
        name = str(params["QueueUrl"]).rsplit("/", maxsplit=1)[-1]
        return {(f"sqs:{operation.removesuffix('Batch')}", f"{name}.Arn")}
    if service == "sns":
        return {(f"sns:{operation.removesuffix('Batch')}", str(params["TopicArn"]).rsplit(":", maxsplit=1)[-1])}
    if service == "secretsmanager":
        return {(f"secretsmanager:{operation}", str(params["SecretId"]))}
    if service == "transcribe":
        return transcribe_rights(operation, params)
    if service == "athena":
        return {(f"athena:{operation}", f"arn:AWS::Partition:athena:{PLACE}:workgroup/TextWorkgroup")}
    raise NotImplementedError(f"Say here which rights a call of {service} needs: {operation}")


def transcribe_rights(operation: str, params: Mapping[str, Any]) -> set[Right]:
    """Amazon Transcribe reads and writes with the rights of whoever starts a job."""
    if operation != "StartTranscriptionJob":
        prefix = str(params["TranscriptionJobName"]).partition(".")[0]
        job = f"arn:AWS::Partition:transcribe:AWS::Region:AWS::AccountId:transcription-job/{prefix}.*"
        return {(f"transcribe:{operation}", job)}
    recording = {"Bucket": params["OutputBucketName"], "Key": params["Media"]["MediaFileUri"].split("/", 3)[3]}
    result = {"Bucket": params["OutputBucketName"], "Key": params["OutputKey"]}
    return {
        ("transcribe:StartTranscriptionJob", "*"), ("s3:GetObject", s3_resource(recording)),
        ("s3:PutObject", s3_resource(result)),
    }  # fmt: skip


S3_ACTIONS = {"HeadObject": "GetObject", "ListObjectsV2": "ListBucket", "ListObjectVersions": "ListBucketVersions"}


def s3_actions(operation: str, params: Mapping[str, Any]) -> set[str]:
    action = S3_ACTIONS.get(operation, operation)
    actions = {action.replace("Object", "ObjectVersion") if "VersionId" in params else action}
    if operation == "PutObject":
        more = {"Tagging": "PutObjectTagging", "ACL": "PutObjectAcl", "IfMatch": "GetObject"}
        actions |= {action for name, action in more.items() if name in params}
    return actions


def s3_resource(params: Mapping[str, Any]) -> str:
    arn = bucket_arn(params["Bucket"])
    if "Key" not in params:
        return arn
    folder, _, name = str(params["Key"]).partition("/")
    if folder == "transcribe":
        return f"{arn}/transcribe/*"
    if kept := next((end for end in (".transcribe.json", ".vtt") if name.endswith(end)), ""):
        return f"{arn}/*/*{kept}"
    if name.count(".") > 1 and name.endswith(".json"):
        return f"{arn}/*/*.*.json"
    own = PREFIX if name.startswith(PREFIX) else ""
    return f"{arn}/*" if folder.isdigit() else f"{arn}/{folder}/{own}*"


def bucket_arn(name: str) -> str:
    return "Bucket.Arn" if name == BUCKET else name


def dynamodb_resources(params: Mapping[str, Any]) -> set[str]:
    if "RequestItems" in params:
        asked = params["RequestItems"].items()
        return {f"{table}.Arn{items_of(key)}" for table, request in asked for key in request["Keys"]}
    index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
    return {f"{params['TableName']}.Arn{index}{items_of(params.get('Key') or params.get('Item') or {})}"}


def items_of(key: Mapping[str, Any]) -> str:
    """What a role's condition says of items with this key; nothing of calls', whose ids can be any."""
    conversation_id = str(key.get("conversation_id", ""))
    if conversation_id.startswith(PREFIX):
        return f"[{PREFIX}*]"
    return f"[{conversation_id}]" if conversation_id.startswith("#") else ""


def site_of(operation: str) -> Iterator[Site]:
    """The function of ours that is calling, if any."""
    frame: Any = sys._getframe()
    while frame := frame.f_back:
        path = os.path.relpath(frame.f_code.co_filename, ROOT)
        if path.startswith(PRODUCT):
            yield path, frame.f_code.co_qualname.split(".<locals>")[0], operation
            return


# ---------------------------------------------------------------- where the code calls it


PRODUCT = ("shared/", *sorted(f"{path.parent.name}/" for path in ROOT.glob("*/handler.py")))


@cache
def operations() -> dict[str, str]:
    """The operations of AWS by the methods of boto3's clients and tables that call them, for the services we use."""
    services = set(re.findall(r"boto3\.(?:client|resource)\(\"(.+?)\"", "".join(product_code().values())))
    clients = [boto3.client(service) for service in sorted(services)]
    return {name: operation for each in clients for name, operation in each.meta.method_to_api_mapping.items()} | {
        "batch_writer": "BatchWriteItem", "upload_fileobj": "PutObject", "upload_file": "PutObject",
        "download_fileobj": "GetObject", "download_file": "GetObject",
    }  # fmt: skip


class Code(ast.NodeVisitor):
    """A module's functions: the names that each uses, and the operations of AWS that it calls."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.names, self.sites, self.imports = path, {}, set(), set()
        self._within: list[str] = []
        self._is_function = False
        self.visit(ast.parse(text))

    @property
    def _place(self) -> str:
        return ".".join(self._within) or "<module>"

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if self._is_function:  # a function in a function is a part of it
            return self.generic_visit(node)
        self._within.append(node.name)
        self._is_function = True
        self.names.setdefault(self._place, set())
        self.generic_visit(node)
        self._is_function = False
        self._within.pop()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = str(node.module).replace(".", "/")
        self.imports |= {f"{module}.py", *(f"{module}/{each.name}.py" for each in node.names)}

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":  # what is imported for types alone never runs
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.names.setdefault(self._place, set()).add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.names.setdefault(self._place, set()).add(f".{node.attr}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            named = [each.value for each in node.args if isinstance(each, ast.Constant)]
            method = named[0] if node.func.attr == "get_paginator" and named else node.func.attr
            if method in operations():
                self.sites.add((self.path, self._place, operations()[method]))
        self.generic_visit(node)


@cache
def parsed(path: str, text: str) -> Code:
    return Code(path, text)


def product_code() -> dict[str, str]:
    """The text of all modules that functions are made of."""
    paths = [path for folder in PRODUCT for path in sorted((ROOT / folder).glob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def call_sites(handler: str, texts: Mapping[str, str]) -> set[Site]:
    """Where the code that can run under a handler calls AWS.

    What can run is told by names alone: whoever says `.read` may mean any method of that name in what it imports. That
    is too much at times, and never too little.
    """
    modules = imported(handler, texts)
    functions = {(code.path, place): names for code in modules for place, names in code.names.items()}
    todo = [(handler, "lambda_handler"), *(key for key in functions if key[1] == "<module>")]
    reached: set[tuple[str, str]] = set()
    while todo:
        key = todo.pop()
        if key not in reached:
            reached.add(key)
            todo += [other for other in functions if names_it(functions[key], other[1])]
    return {site for code in modules for site in code.sites if site[:2] in reached}


def names_it(names: set[str], place: str) -> bool:
    owner, _, name = place.rpartition(".")
    if not owner:
        return name in names or f".{name}" in names
    return f".{name}" in names or (name.startswith("__") and (owner in names or f".{owner}" in names))


def imported(handler: str, texts: Mapping[str, str]) -> list[Code]:
    found: dict[str, Code] = {}
    todo = [handler]
    while todo:
        path = todo.pop()
        if path in texts and path not in found:
            found[path] = parsed(path, texts[path])
            todo += found[path].imports
    return list(found.values())


def handler_of(stack: Deployed, function: str) -> str:
    """The file of a function's handler."""
    module = str(stack.of("AWS::Lambda::Function")[function]["Handler"]).rpartition(".")[0]
    return str(Path(*module.split(".")).with_suffix(".py"))
