"""Who acts on the stack: ElevenLabs, which sends webhooks, and operators, who run the real commands."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

from scripts.operations.dead_letters import QUEUES, DeadLetterQueue
from scripts.operations.erasure.journal import Journal
from scripts.operations.erasure.protocol import Run
from scripts.operations.erasure.reading import Subject
from scripts.operations.replay import Run as Replay
from scripts.operations.replay import hand_on, plan_bodies
from scripts.operations.selection import Chosen
from scripts.operations.stack import Stack
from scripts.operations.view import View
from shared.caller import found_by
from shared.signature import signed_headers
from tests.faults.simulator.lambdas import Lambda
from tests.faults.simulator.scheduler import Process
from tests.faults.simulator.story import SECRET, Act, Body
from tests.faults.simulator.world import World

REPEATS = (0, 30, 120, 480, 1800)  # seconds before each attempt, jitter up to 10 % (ElevenLabs' contract)
RETRYABLE = (408, 429, 500, 502, 503, 504)


class Sender:
    """ElevenLabs' webhooks: transcripts are sent up to five times, audio once. `accepted` are the bodies with a 200."""

    def __init__(self, world: World, functions: Lambda) -> None:
        self._world, self._functions = world, functions
        self.accepted: dict[str, Body] = {}
        self.received: list[tuple[float, Body]] = []
        self.check_accepted: Callable[[Body], None] = lambda _: None

    def send(self, body: Body, attempt: int = 0) -> None:
        """Send a body, and again after an answer that can be repeated, or one that got lost."""
        now = int(self._world.scheduler.now)
        headers = signed_headers(body.content, SECRET, str(now), is_test=False)
        self._world.note(
            "elevenlabs", f"sends {body.kind} {body.conversation_id} {body.delivery_id[:8]}, attempt {attempt + 1}"
        )
        self._functions.post(
            f"ingest/{body.delivery_id[:8]}", body.content, headers, partial(self._answered, body, attempt)
        )

    def _answered(self, body: Body, attempt: int, answer: dict[str, Any]) -> None:
        status = answer["statusCode"]
        self._world.note("elevenlabs", f"gets {status} for {body.delivery_id[:8]}")
        if status == 200:
            self.accepted[body.delivery_id] = body
            self.check_accepted(body)
        is_lost = self._world.is_faulty and self._world.random.random() < self._world.faults.lost_deliveries
        if body.kind != "audio" and attempt + 1 < len(REPEATS) and (status in RETRYABLE or is_lost):
            pause = REPEATS[attempt + 1] * self._world.random.uniform(1, 1.1)
            self._world.scheduler.at(self._world.scheduler.now + pause, partial(self.send, body, attempt + 1))


class Operators:
    """Operators, who run the commands' own code. A command may fail, or be interrupted; then it is run again."""

    def __init__(self, world: World, outputs: dict[str, str], functions: Lambda, environment: dict[str, str]) -> None:
        self._world, self._outputs, self._functions, self._environment = world, outputs, functions, environment
        self._number = 0
        self.begun: set[str] = set()  # erasures, by number or id
        self.erased: dict[str, float] = {}  # those that were completed, and when they began

    def act(self, act: Act) -> None:
        doing = {
            "erase": partial(self._erase, act.subject), "redrive": self._redrive, "replay": self._replay,
            "gzip": self._switch_gzip,
        }  # fmt: skip
        if act.what == "reconcile":
            return self._functions.reconcile()
        self.run(act.what, doing[act.what])

    def run(self, what: str, work: Callable[[View], None], then: Callable[[bool], None] = lambda _: None) -> None:
        self._number += 1
        process: Process = self._world.process(f"ops {what}#{self._number}")
        self._world.note(process, "begins")
        fibre = self._world.scheduler.start(process, lambda: work(self._view()))
        fibre.then.append(lambda: self._ended(process, fibre.error, then))

    def _ended(self, process: Process, error: BaseException | None, then: Callable[[bool], None]) -> None:
        self._world.note(process, f"ends: {type(error).__name__ if error else 'done'}")
        then(error is None)

    def _view(self) -> View:
        session: Any = SimpleNamespace(client=self._world.client, resource=self._world.resource)
        return QuietView(Stack("simulated", self._outputs, session))

    def _erase(self, name: str, view: View) -> None:
        """`ops erase --yes`, without its certificate."""
        subject = Subject("", name) if name.startswith("conv") else Subject(found_by(name))
        self.begun.add(name)
        run = Run(view, subject)
        found = run.find()
        journal = Journal(view.stack)
        journal.begin(subject)
        if run.erase(found, None).is_complete:
            journal.end(subject)
            self.erased[name] = subject.at.timestamp()

    def _redrive(self, view: View) -> None:
        """`ops dlq redrive`, as the runbook says: what is no poison message."""
        for name in QUEUES:
            queue = DeadLetterQueue(view.stack, name)
            with queue.letters(view) as letters:
                for letter in letters:
                    if not letter.is_poison:
                        queue.redrive(letter)

    def _replay(self, view: View) -> None:
        plan = plan_bodies(view, Chosen(view.stack, "2026-03-01"), unarchived=False, dropped=False)
        Replay(view, ["2026-03-01"], plan.work).send_all(hand_on(view, force=False), per_second=1000)

    def _switch_gzip(self, _: View) -> None:
        """A deployment with another parameter."""
        self._environment["GZIP_JSON"] = "true" if self._environment["GZIP_JSON"] == "false" else "false"
        self._functions.start(self._environment)

    def redrive(self) -> None:
        self.run("redrive", self._redrive)

    def finish_erasures(self) -> None:
        """Run the erasures again that were interrupted, or that said that something is left."""
        for name in sorted(self.begun - self.erased.keys()):
            self.run("erase", partial(self._erase, name))


class QuietView(View):
    """A view without a terminal."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack.name, local=False, as_json=True)
        self.__dict__ |= {"stack": stack, "progress": SimpleNamespace(status=_nothing, print=lambda *_: None)}

    @contextmanager
    def bar(self) -> Iterator[Any]:
        yield SimpleNamespace(track=_track)


def _track(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    return items


@contextmanager
def _nothing(*_: Any) -> Iterator[None]:
    yield
