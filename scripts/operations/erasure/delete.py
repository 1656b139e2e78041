"""Deletes the objects of an erased caller, or of one call, and writes tombstones that keep data from coming back."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone

from scripts.operations.erasure.find import Found, all_versions
from scripts.operations.erasure.reading import Subject
from scripts.operations.stack import AT_ONCE, Stack
from shared import keys
from shared.bucket import Version
from shared.call import Call
from shared.times import utc
from shared.unnamed import Unnamed
from transcriber.jobs import Jobs


class Eraser:
    """Writes tombstones and deletes. It is no error if something is gone already."""

    def __init__(self, stack: Stack, subject: Subject) -> None:
        self._stack, self._subject, self._bucket, self._records = stack, subject, stack.bucket, stack.records
        self._unnamed = Unnamed(stack.table)

    def write_caller_tombstone(self) -> None:
        """From now on the archiver drops the caller's earlier calls, however late they arrive."""
        if self._subject.caller:
            self._stack.tombstones.record_erasure(self._subject.caller, self._subject.at)

    def write_call_tombstones(self, found: Found, users_of: Callable[[Call], set[str]]) -> None:
        """From now on the functions drop everything that arrives about these calls."""
        now = datetime.now(timezone.utc)
        for conversation_id, call in found.calls.items():
            self._keep_findable(call, utc(now))
            found.calls[conversation_id] = self._records.erase(conversation_id, utc(now), users_of(call))

    def _keep_findable(self, call: Call, now: str) -> None:
        """Let the index find the call: once its transcript is deleted, nothing else tells whose its audio is."""
        caller = self._subject.caller
        if caller and caller not in call.numbers | {call.caller}:
            self._records.note_numbers(replace(call, numbers=frozenset({caller})), now)

    def delete_jobs(self, found: Found) -> set[str]:
        """Delete what Amazon Transcribe keeps of the calls' jobs; returns the calls whose job is still running.

        A running job can neither be stopped nor deleted. When it ends, the transcriber finds the tombstone.
        """
        names = {call.conversation_id: call.transcription.job for call in found.calls.values() if call.transcription}
        if not names:
            return set()
        jobs = Jobs(self._stack.client("transcribe"), prefix="", bucket_name=self._bucket.name, kms_key_arn="")
        found_jobs = {each: job for each, name in names.items() if (job := jobs.find(name))}
        for each, job in found_jobs.items():
            if not job.is_running:
                jobs.delete(names[each])
        return {each for each, job in found_jobs.items() if job.is_running}

    def delete_objects(self, found: Found) -> Iterator[tuple[Version, bool]]:
        """Delete permanently; says of each version whether it is deleted. Arrays go first: others lead to them."""
        now = datetime.now(timezone.utc)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for key in found.bodies:
                self._records.note_discarded(str(keys.staged_delivery_id(key)), now)
            for versions in (list(found.finals), all_versions(found.arrays), all_versions(found.staged)):
                yield from zip(versions, pool.map(self._delete, versions), strict=True)

    def _delete(self, version: Version) -> bool:
        """Delete one version permanently. False if it may not be deleted: then a delete marker hides it."""
        if self._bucket.delete_for_good(version):
            return True
        self._stack.client("s3").delete_object(Bucket=self._bucket.name, Key=version.key)
        return False

    def clear_records(self, found: Found, kept: set[str]) -> None:
        """Leave only the tombstones of the calls, and remove the caller's data from records of others.

        Calls that are `kept`, or for a person to review, must be found again: their number leaves the index last.
        """
        caller = self._subject.caller
        for call in found.calls.values():
            if call.conversation_id not in kept:
                self._records.write_tombstone(replace(call, numbers=call.numbers - {caller}))
                if caller:
                    self._records.remove_number(call.conversation_id, caller)
        for call in found.shared.values():
            if not kept and not any(f"/{call.conversation_id}." in key for key in found.to_review):
                events = {key for key in call.event_keys if not any(self._bucket.versions(key))}
                staged = call.staged_keys & found.bodies.keys()
                self._records.leave_out_number(call.conversation_id, caller, staged, events)
                self._records.remove_number(call.conversation_id, caller)

    def remove_notes(self, found: Found) -> None:
        """Remove the notes about staged bodies that are archived or gone: nobody needs to read them again."""
        for key in found.resolved:
            self._unnamed.remove(key)
