"""The stack's alarms, judged by their own definitions.

CloudWatch notices after minutes, and on the embedded AWS never. So what can be seen at once is judged here, by the same
rules: the messages in a queue, and what the functions counted. The other alarms are as CloudWatch says.
"""

import re
from dataclasses import dataclass
from typing import Any

from scripts.operations.counts import Counts, service_of
from scripts.operations.logs import FUNCTIONS
from scripts.operations.rules import FILLED, STATISTICS, Json, state, watched
from scripts.operations.stack import Stack

# A command in an alarm's text: its words end where the sentence goes on.
_COMMAND = re.compile(
    r"\./scripts/ops ((?:dlq )?[a-z][a-z-]*(?: (?:archive|memory|audio|transcribe)\b| --[a-z][a-z-]*(?: \d+[mhd]\b)?)*)"
)
_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z]|\./)")


@dataclass(frozen=True)
class Alarm:
    """One alarm: the name that it has in the template, and what CloudWatch keeps of it."""

    name: str
    definition: Json

    @property
    def text(self) -> str:
        return str(self.definition.get("AlarmDescription", ""))

    @property
    def trouble(self) -> str:
        """What is wrong: the first sentence of its text."""
        return _SENTENCE.split(self.text)[0]

    @property
    def commands(self) -> list[str]:
        """The commands that its text names, without `status` and `dlq redrive`.

        The reader has just used `ops status`. A redrive does not help with each message: `ops dlq show` says when.
        """
        named = dict.fromkeys(_COMMAND.findall(self.text))
        return [each for each in named if each != "status" and not each.startswith("dlq redrive")]

    def watches(self, metric: str, dimension: str) -> bool:
        """Whether it is about this metric, of the queue or function with this name."""
        return self.definition.get("MetricName") == metric and dimension in dict(watched(self.definition)[2]).values()


def find_alarms(stack: Stack) -> list[Alarm]:
    """Those of this stack, and not of one whose name begins with this one's."""
    pages = stack.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{stack.name}-")
    ours = re.compile(rf"{re.escape(stack.name)}-(\w+)-\w+")
    found = [(ours.fullmatch(each["AlarmName"]), each) for page in pages for each in page["MetricAlarms"]]
    return [Alarm(match[1], definition) for match, definition in found if match]


def firing(stack: Stack, alarms: list[Alarm], messages: dict[str, int], counts: Counts) -> list[Alarm]:
    """The alarms that fire now; `messages` are those in each queue, by its name on AWS."""
    return [alarm for alarm in alarms if is_firing(stack, alarm.definition, messages, counts)]


def is_firing(stack: Stack, alarm: Json, messages: dict[str, int], counts: Counts) -> bool:
    queue = _queue_of(alarm)
    if queue in messages:
        return state(alarm, [[messages[queue]]] * int(alarm["EvaluationPeriods"])) == "ALARM"
    if _counts_in_the_log(alarm):
        return state(alarm, counts.periods(alarm)) == "ALARM"
    return stack.endpoint_url is None and alarm["StateValue"] == "ALARM"  # the embedded AWS does not evaluate alarms


def _queue_of(alarm: Json) -> str | None:
    dimensions: dict[str, Any] = {each["Name"]: each["Value"] for each in alarm.get("Dimensions", [])}
    is_depth = alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible" and _is_plain(alarm)
    return dimensions.get("QueueName") if is_depth else None


def _counts_in_the_log(alarm: Json) -> bool:
    """An alarm that fires when nothing is counted is left to CloudWatch: a log does not tell the age of the stack."""
    return service_of(alarm) in FUNCTIONS and _is_plain(alarm) and alarm["TreatMissingData"] == "notBreaching"


def _is_plain(alarm: Json) -> bool:
    return alarm.get("Statistic") in STATISTICS and alarm.get("TreatMissingData") in FILLED
