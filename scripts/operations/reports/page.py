"""The page of a report: one file that loads nothing and runs nothing."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.operations.reports import charts
from scripts.operations.reports.charts import Series
from scripts.operations.reports.numbers import WEEKDAYS

TEMPLATE = "page.html"
MOST_CHANGE = 1000  # percent
MOST_ROWS = 15  # of a table; --json has all
OUTCOMES = (("success", "successful", "c1"), ("failure", "failed", "bad"), ("unknown", "not judged", "rest"))
CALLERS = (("of_returning_callers", "of returning callers", "c1"), ("of_new_callers", "of new callers", "c2"),
           ("without_number", "without a number", "rest"))  # fmt: skip


def render(report: dict[str, Any]) -> str:
    """The HTML of a report's numbers. All text in them is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "whole": whole, "percent": percent, "clock": clock, "money": money, "change": change, "day": day,
        "seconds": seconds, "amount": amount, "moment": moment, "price": price,
    }  # fmt: skip
    environment.globals |= {"bar": charts.bar, "line": charts.line, "most": MOST_ROWS}
    return environment.get_template(TEMPLATE).render(
        report | {"charts": draw(report), "lowest": lowest(report["criteria"])}
    )


def draw(report: dict[str, Any]) -> dict[str, Any]:
    """Each chart, and the names of its colours."""
    days = report["days"]
    labels = [day(each["day"]) for each in days]
    shown = [str(at) if at == 1 or at % 5 == 0 else "" for at in range(1, len(days) + 1)]
    weekend = [at for at, each in enumerate(days) if date.fromisoformat(each["day"]).weekday() > 4]

    def daily(*series: Series, title: str, share: bool = False) -> Markup:
        return charts.columns(
            labels, series, shown, rounded if share else whole, marked=weekend, top=100 if share else None, title=title
        )

    def one(name: str, label: str, colour: str = "c1") -> Series:
        return Series(label, colour, [each[name] for each in days])

    bins = report["durations"]["histogram"]
    spans = [span(each["from"], each["to"]) for each in bins]
    hours = report["hours"]["calls"]
    return {
        "calls": daily(one("calls", "calls"), title="Calls per day"),
        "minutes": daily(one("minutes", "minutes"), title="Minutes per day"),
        "outcomes": daily(*shares(days), title="Outcomes per day, in percent", share=True),
        "callers": daily(*(one(*each) for each in CALLERS), title="Calls per day by kind of caller"),
        "durations": charts.columns(
            spans, [Series("calls", "c1", [each["calls"] for each in bins])], spans, whole, title="Calls by length"
        ),
        "hours": charts.heat(
            hours, WEEKDAYS, lambda row, at: f"{WEEKDAYS[row]}, {at}:00: {whole(hours[row][at])} calls"
        ),
    }


def shares(days: list[dict[str, Any]]) -> list[Series]:
    return [
        Series(label, colour, [100 * each[name] / each["calls"] if each["calls"] else 0 for each in days])
        for name, label, colour in OUTCOMES
    ]


def lowest(criteria: list[dict[str, Any]]) -> int:
    """Where the lines of all criteria begin: the tens of the lowest share, so that their changes can be seen."""
    shares = (each["success_share"] for criterion in criteria for each in criterion["periods"])
    return min([90, *(int(share // 10) * 10 for share in shares if share is not None)])


# ------------------------------------------------------------------ numbers as people read them


def whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value >= 10 or float(value).is_integer() else f"{value:,.1f}"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} %" if value in (0, 100) else f"{value:.1f} %"


def rounded(value: float) -> str:
    return f"{value:.0f} %"


def clock(value: float | None) -> str:
    """Seconds as minutes and seconds."""
    return "–" if value is None else f"{int(value) // 60}:{int(value) % 60:02}"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:,.1f} s"


def money(value: float) -> str:
    """Dollars, with the digits that a small amount needs."""
    return f"${value:,.2f}" if round(value, 2) or not value else f"${value:.4f}"


def amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def price(value: float) -> str:
    """At least two digits after the point, and as many as the price has."""
    short = f"{value:.4f}".rstrip("0")
    return short if len(short.partition(".")[2]) > 1 else f"{value:.2f}"


def moment(iso: str) -> str:
    at = datetime.fromisoformat(iso)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def change(value: float | None, name: str) -> str:
    """The change before the word `from`; none if it is too large to mean anything."""
    if value is None or abs(value) > MOST_CHANGE:
        return ""
    unit = "points" if name.endswith("_share") else "%"
    return f"{'+' if value > 0 else '−'}{abs(value):,.1f} {unit} " if value else "unchanged "


def day(iso: str) -> str:
    found = date.fromisoformat(iso)
    return f"{found:%A}, {found.day} {found:%B}"


def span(low: int, high: int | None) -> str:
    """A range of seconds in minutes, such as 1–2."""
    first, last = ("½" if each == 30 else str(each // 60) for each in (low, high or 0))
    return f"{first}–{last}" if high else f"over {first}"
