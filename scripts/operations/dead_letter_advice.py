"""What to do with dead letters: fix the cause and redrive them, or drop those that no redrive can help."""

from collections.abc import Iterator

from scripts.aws_session import STACK_NAME
from scripts.operations.dead_letters import BY_ATTEMPTS, DeadLetter
from scripts.operations.stack import Stack
from scripts.operations.view import View, several
from shared.keys import is_recording

# What an error contains, what is wrong then, and what `make deploy` is given.
FIXES = (
    ("Mem0 refused the key", "Mem0 refuses the key. Enter a valid one", 'PARAMETERS="Mem0ApiKey=ask"'),
    ("Mem0Host", "The address of Mem0 is wrong. Correct it", 'PARAMETERS="Mem0Host=https://…"'),
    ("could not be reached", "Mem0 is down: wait. Or its address is wrong: correct it", 'PARAMETERS="Mem0Host=https://…"'),
    ("MemoryConfig", "The configuration of Mem0 or its policy is wrong. Correct it", 'PARAMETERS="MemoryConfig=ask"'),
    ("not built for oss", "The package is not built for open-source Mem0. Build it", "MEMORY_BACKEND=oss"),
    ("ElevenLabsApiHost", "The address of ElevenLabs is wrong. Correct it", 'PARAMETERS="ElevenLabsApiHost=https://…"'),
)  # fmt: skip
IN_CODE = "If the code or a parameter is the cause, change it and deploy"
LOST = "On a local stack this is a restart. It deletes everything, these messages too"


def advise(view: View, queue: str, letters: list[DeadLetter]) -> str:
    """The advice, each on a line that ends with its command."""
    by_cure: dict[tuple[str, str], list[DeadLetter]] = {}
    for letter in letters:
        by_cure.setdefault((letter.cure, letter.fault[0]), []).append(letter)
    lines = list(before_redrive(view, queue, [letter for letter in letters if letter.cure == "redrive"]))
    for (cure, step), mine in sorted(by_cure.items(), key=lambda item: item[0], reverse=True):
        command = f'ops dlq drop {queue} --error "{step}: " --yes'
        if cure == "poison":
            lines += before_drop(view.stack, mine, command)
        elif cure == "done":
            lines.append(f"Nothing is left to do. Drop the message: {command}")
    return "\n".join(lines)


def before_redrive(view: View, queue: str, letters: list[DeadLetter]) -> Iterator[str]:
    """How to fix the causes that the errors name, then the redrive."""
    if letters:
        yield from dict.fromkeys(line for letter in letters for line in fixes(view, letter))
        yield f"Fix the cause, then run: ops dlq redrive {queue} --yes"


def fixes(view: View, letter: DeadLetter) -> list[str]:
    """How to fix what the error names; or else what the reader must find out."""
    step, error = letter.fault
    named = [(text, given) for part, text, given in FIXES if part in error]
    found = named or ([(IN_CODE, "")] if step == BY_ATTEMPTS else [])
    lost = f". {LOST}" if view.local else ""
    return [f"{text}{lost}: {deploy(view, given)}" for text, given in found]


def deploy(view: View, given: str) -> str:
    """The command that deploys a change; `given` is what it needs to know."""
    if view.local:
        return f"{given} make local".strip()
    name = f"STACK={view.stack.name}" if view.stack.name != STACK_NAME else ""
    return " ".join(word for word in ("make deploy", name, given) if word)


def before_drop(stack: Stack, letters: list[DeadLetter], drop: str) -> list[str]:
    """How to look at the payloads that are still there, then the drop."""
    there = [letter for letter in letters if letter.has_payload]
    if not there:
        gone = " Its payload is gone." if any(letter.staged_key for letter in letters) else ""
        return [f"A redrive cannot help.{gone} Drop the message: {drop}"]
    look = "Look at the payload" if len(there) == 1 else f"Look at the {len(there)} payloads. This shows the first"
    stay = several(len(there), "payload stays", "payloads stay")
    what = "the message. Its payload stays" if len(letters) == 1 else f"the messages. {stay}"
    return [
        f"A redrive cannot help. {look}: {show_payload(stack, there[0].staged_key)}",
        f"Then drop {what} in staging/: {drop}",
    ]


def show_payload(stack: Stack, key: str) -> str:
    """The command that shows a payload; it saves a recording to the current folder."""
    where = f' --endpoint-url "{stack.endpoint_url}"' if stack.endpoint_url else ""
    return f'aws s3 cp "s3://{stack.bucket.name}/{key}" {"." if is_recording(key) else "-"}{where}'
