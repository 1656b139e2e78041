"""When an alarm fires, and what our functions counted: CloudWatch's rules, which `ops status` and the tests share.

The rules are those of the CloudWatch user guide: "Alarm evaluation", and how missing data is treated in it.
"""

import json
import operator
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

# CloudWatch looks at more periods than an alarm names, before it takes missing ones for breaching or for not breaching.
# It does not say how many more; the guide's examples have two.
FURTHER_BACK = 2
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "Average": mean,
    "SampleCount": len,
}
COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
FILLED = {"breaching": True, "notBreaching": False}  # the other two treatments are for metrics that never pause

Json = dict[str, Any]
Period = Sequence[float]  # the values of one period; none: missing
Metric = tuple[str, str, frozenset[tuple[str, str]]]  # namespace, name, dimensions


def state(alarm: Json, periods: Sequence[Period]) -> str:
    """OK or ALARM after these periods, the last of which is the latest."""
    needed = int(alarm["EvaluationPeriods"])
    known = [is_breaching(alarm, values) for values in periods[-(needed + FURTHER_BACK) :] if values]
    points = known[-needed:] + [FILLED[alarm["TreatMissingData"]]] * (needed - len(known))
    return "ALARM" if sum(points) >= int(alarm.get("DatapointsToAlarm", needed)) else "OK"


def is_breaching(alarm: Json, values: Period) -> bool:
    compare = COMPARISONS[alarm["ComparisonOperator"]]
    return bool(compare(STATISTICS[alarm["Statistic"]](values), float(alarm["Threshold"])))


def watched(alarm: Json) -> Metric:
    dimensions = frozenset((each["Name"], each["Value"]) for each in alarm.get("Dimensions", []))
    return alarm["Namespace"], alarm["MetricName"], dimensions


def counted(line: str) -> Iterator[tuple[Metric, list[float]]]:
    """What CloudWatch makes of a line in the embedded metric format: one metric for each set of dimensions."""
    blob = json.loads(line) if '"CloudWatchMetrics"' in line else {"_aws": {"CloudWatchMetrics": []}}
    for directive in blob["_aws"]["CloudWatchMetrics"]:
        for dimensions in directive["Dimensions"]:
            for metric in directive["Metrics"]:
                key = frozenset((name, blob[name]) for name in dimensions)
                yield (directive["Namespace"], metric["Name"], key), blob[metric["Name"]]
