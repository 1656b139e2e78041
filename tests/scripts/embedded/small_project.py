"""A project with a stack of a few resources, as the embedded AWS deploys it."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  BucketName: {Type: String, Default: first-bucket}
  MemoryConfig: {Type: String, Default: ""}
  MemoryConcurrency: {Type: Number, Default: 10}
  ApiKey: {Type: String, Default: none, NoEcho: true}
Mappings:
  Constants: {Queue: {VisibilitySeconds: 5}}
Resources:
  Bucket: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref BucketName}}
  BucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Bucket
      PolicyDocument:
        Statement:
          - Effect: Deny
            Principal: "*"
            Action: "s3:*"
            Resource: !Sub "${Bucket.Arn}/*"
            Condition: {Bool: {"aws:SecureTransport": "false"}}
  Queue:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: !FindInMap [Constants, Queue, VisibilitySeconds]}
  Secret:
    Type: AWS::SecretsManager::Secret
    Properties: {GenerateSecretString: {PasswordLength: 64, ExcludePunctuation: true}}
  Api: {Type: AWS::Serverless::HttpApi}
  Function:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Handler: ingest.handler.lambda_handler
      Runtime: python3.13
      Environment: {Variables: {BUCKET: !Ref Bucket, CONCURRENCY: !Ref MemoryConcurrency}}
      Policies: [{Statement: [{Effect: Allow, Action: "s3:PutObject", Resource: !Sub "${Bucket.Arn}/allowed/*"}]}]
      Events:
        Post: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: POST, Path: /post-call}}
        Message:
          Type: SQS
          Properties: {Queue: !GetAtt Queue.Arn, ScalingConfig: {MaximumConcurrency: !Ref MemoryConcurrency}}
Outputs:
  PostCallUrl: {Value: !Sub "${Api.ApiEndpoint}/post-call"}
  WebhookSecretArn: {Value: !GetAtt Secret.Id}
  BucketName: {Value: !Ref Bucket}
  QueueUrl: {Value: !Ref Queue}
  MemoryConfig: {Value: !Ref MemoryConfig}
  MemoryConcurrency: {Value: !Ref MemoryConcurrency}
  ApiKey: {Value: !Ref ApiKey}
  VisibilitySeconds: {Value: !FindInMap [Constants, Queue, VisibilitySeconds]}
"""


HANDLER = """
import os
import pathlib
import time
import boto3
from botocore.exceptions import ClientError
from shared.word import WORD

def lambda_handler(event, context):
    key = event["Records"][0]["body"] if "Records" in event else event["body"]
    try:
        boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=key, Body=b"x")
    except ClientError as error:
        return {"statusCode": 403, "body": error.response["Error"]["Code"]}
    if key == "allowed/asleep":
        pathlib.Path(os.environ["HOME"], "asleep").touch()
        time.sleep(60)
    return {"statusCode": 200, "body": WORD + " " + os.environ.get("AWS_PROFILE", "no profile")}
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in {"ingest/handler.py": HANDLER, "shared/word.py": "WORD = 'stored'", "tests/x.py": ""}.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    (folder / "template.yaml").write_text(TEMPLATE)
    return folder / "template.yaml"


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "waited 30 s"
        time.sleep(0.05)


def post(url: str, body: str) -> tuple[int, str]:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "text/plain"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
