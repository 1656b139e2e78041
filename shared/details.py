"""The parts of a call's JSON that people are shown, beyond what `shared.conversation` reads: turns, tools, results."""

import msgspec

from shared.parts import MISSING, Part, fields, text

Raw = msgspec.Raw


class Details(Part):
    """The JSON itself."""

    agent_name: Raw = MISSING
    transcript: Raw = MISSING
    metadata: Raw = MISSING
    analysis: Raw = MISSING


class Metadata(Part):
    main_language: Raw = MISSING
    termination_reason: Raw = MISSING
    cost_fiat: Raw = MISSING
    phone_call: Raw = MISSING
    sms: Raw = MISSING
    whatsapp: Raw = MISSING


class Analysis(Part):
    evaluation_criteria_results: Raw = MISSING
    evaluation: Raw = MISSING
    data_collection_results: Raw = MISSING


class Result(Part):
    """Of a criterion, or a value that was collected."""

    name: Raw = MISSING
    result: Raw = MISSING
    value: Raw = MISSING
    rationale: Raw = MISSING


class TurnPart(Part):
    role: Raw = MISSING
    message: Raw = MISSING
    content: Raw = MISSING
    original_message: Raw = MISSING
    interrupted: Raw = MISSING
    time_in_call_secs: Raw = MISSING
    source_medium: Raw = MISSING
    tool_calls: Raw = MISSING
    tool_results: Raw = MISSING


class ToolPart(Part):
    """A tool call, or its result."""

    request_id: Raw = MISSING
    tool_name: Raw = MISSING
    type: Raw = MISSING
    params_as_json: Raw = MISSING
    result_value: Raw = MISSING
    result: Raw = MISSING
    is_error: Raw = MISSING
    tool_latency_secs: Raw = MISSING
    error_type: Raw = MISSING


class _Contact(Part):
    direction: Raw = MISSING


def direction_of(metadata: Metadata) -> str | None:
    """inbound or outbound, as the channel of the call says."""
    contacts = (fields(_Contact, part) for part in (metadata.phone_call, metadata.sms, metadata.whatsapp))
    return next((found for each in contacts if (found := text(each.direction))), None)
