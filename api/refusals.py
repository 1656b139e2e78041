"""Answers to what cannot be answered. None tells anything of the inside."""

from collections.abc import Iterable

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from botocore.exceptions import BotoCoreError, ClientError

from api.replies import problem
from shared.aws_errors import error_code
from shared.errors import ProblemError, RetryError
from shared.observability import count, logger

OTHER_METHODS = ["DELETE", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]


def add_refusals(app: APIGatewayHttpResolver, routes: Iterable[str]) -> None:
    """Answer every error, and every method but GET, with problem details."""
    for route in routes:
        app.route(route, method=OTHER_METHODS)(_refuse_method)
    app.not_found(_refuse_path)
    app.exception_handler(ProblemError)(_refuse)
    app.exception_handler([ClientError, BotoCoreError, RetryError])(_report_unavailable)
    app.exception_handler(Exception)(_report_failure)


def _refuse(error: ProblemError) -> Response[str]:
    count("RequestRefused", reason=str(error.status))
    return problem(error)


def _refuse_method(**_: str) -> Response[str]:
    return _refuse(ProblemError(405, "This can only be read: use GET."))


def _refuse_path(_: Exception) -> Response[str]:
    return _refuse(ProblemError(404, "There is nothing at this address."))


def _report_unavailable(error: Exception) -> Response[str]:
    code = error_code(error) if isinstance(error, ClientError | BotoCoreError) else str(error)
    logger.error("A service of AWS refused or did not answer", error=code)
    count("RequestUnavailable")
    return problem(ProblemError(503, "The archive cannot be read at the moment. Try again in some seconds."))


def _report_failure(_: Exception) -> Response[str]:
    logger.exception("Request failed")
    count("RequestFailed")
    return problem(ProblemError(500, "The request failed. The log of the function has the reason."))
