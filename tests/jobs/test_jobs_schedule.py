"""Any schedule of several workers, owners and accidents: no job is lost, none ends twice."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from components.jobs.job import JobProgress, Lease, LeaseStatus, State
from components.jobs.tables import TABLES
from tests.fixtures.job_stores import ATTEMPTS, LEASE_S, JobStores, database

__all__ = ["database"]

INDEX = st.integers(0, 99)
#: How many workers may die with a job, by default.
CRASHES = 2
#: Seconds for which nothing is begun beside a suspected job.
ALONE_S = 60


@dataclass
class Expected:
    """What a job must be, by the simplest account of it."""

    owner: str
    state: State = State.QUEUED
    cancelling: bool = False
    attempts: int = 0
    crashes: int = 0
    token: str | None = None
    until: float = 0.0
    not_before: float = 0.0
    begun: float = 0.0
    result: bytes | None = None
    ends: int = field(default=0)

    def end(self, state: State) -> None:
        self.state, self.cancelling, self.ends = state, False, self.ends + 1


class Schedule(RuleBasedStateMachine):
    """Workers are nothing but the leases they hold; one that sleeps, dies or is late does nothing for a while."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="realcustom-")
        self.stores = JobStores(Path(self.folder.name), self.url, max_queued=1000)
        with self.stores.engine.begin() as connection:
            for table in TABLES:
                connection.execute(table.delete())
        self.jobs: dict[str, Expected] = {}
        self.leases: list[Lease] = []

    def teardown(self) -> None:
        """Everybody but one worker is dead for good; that one finishes what there is."""
        for _ in range(len(self.jobs) * (ATTEMPTS + 1)):
            self.stores.clock.now += LEASE_S + 100
            while lease := self.stores.queue.claim():
                self.stores.queue.finish(lease, b"last")
        for job in self.jobs:
            assert State(self.stores.state(job, self.jobs[job].owner)).final
        self.stores.engine.dispose()
        self.folder.cleanup()

    def _of(self, lease: Lease) -> Expected | None:
        """The job of a lease that still is its."""
        job = self.jobs.get(lease.job)
        return job if job and job.state is State.RUNNING and job.token == lease.token else None

    @rule(owner=st.sampled_from("ab"))
    def submit(self, owner: str) -> None:
        job = self.stores.submit(owner=owner)
        assert job not in self.jobs
        self.jobs[job] = Expected(owner)

    @rule()
    def claim(self) -> None:
        lease = self.stores.queue.claim()
        now = self.stores.clock.now
        for job in self.jobs.values():  # whatever was found dead on the way has ended
            if job.state is State.RUNNING and job.until <= now:
                if job.cancelling:
                    self._settle(job, State.CANCELLED)
                elif job.crashes + 1 >= CRASHES:
                    self._suspend(job, now)
                elif job.attempts >= ATTEMPTS:
                    self._settle(job, State.FAILED)
            elif job.state is State.QUEUED and job.crashes >= CRASHES and job.not_before <= now:
                self._settle(job, State.FAILED)
        if lease is None:
            running = [j for j in self.jobs.values() if j.state is State.RUNNING]
            alive = [j for j in running if j.until >= now - 1]  # a suspected job is processed alone
            waiting = [j for j in self.jobs.values() if j.state is State.QUEUED and j.not_before < now - 1]
            dead = [j for j in running if j.until < now - 1]
            trial = any(j.crashes for j in [*alive, *waiting]) or dead
            assert not (waiting or dead) or (trial and alive), "there was something to claim"
            return
        job = self.jobs[lease.job]
        assert job.state is State.QUEUED or (job.state is State.RUNNING and job.until <= now), "it was somebody's"
        job.crashes += job.state is State.RUNNING
        assert lease.attempt == job.attempts + 1 <= ATTEMPTS
        beside = [j for j in self.jobs.values() if j is not job and j.state is State.RUNNING and j.until > now]
        if not any(j.begun < now - ALONE_S for j in [job, *beside]):
            assert not (beside and any(j.crashes for j in [job, *beside])), "a suspected job is alone"
        job.state, job.token, job.attempts, job.until = State.RUNNING, lease.token, lease.attempt, now + LEASE_S
        job.begun = now
        self.leases.append(lease)

    def _settle(self, job: Expected, state: State) -> None:
        """A claim ends dead jobs that come before the one it takes, so some may still be as they were."""
        if self._state(job) == state:
            job.end(state)

    def _suspend(self, job: Expected, now: float) -> None:
        """A claim lets a job that too many have died with wait for a lease, before it fails."""
        if self._state(job) == State.QUEUED:
            job.state, job.token, job.crashes, job.not_before = State.QUEUED, None, job.crashes + 1, now + LEASE_S

    def _state(self, job: Expected) -> str:
        (name,) = (name for name, other in self.jobs.items() if other is job)
        return self.stores.state(name, job.owner)

    @precondition(lambda self: self.leases)
    @rule(index=INDEX, step=st.integers(0, 8))
    def renew(self, index: int, step: int) -> None:
        lease = self.leases[index % len(self.leases)]
        job, lease_status = self._of(lease), self.stores.queue.renew(lease, JobProgress(step, 8, 0, 2))
        if job is None:
            assert lease_status is LeaseStatus.LOST
        else:
            assert lease_status is (LeaseStatus.CANCELLED if job.cancelling else LeaseStatus.HELD)
            job.until = self.stores.clock.now + LEASE_S

    @precondition(lambda self: self.leases)
    @rule(index=INDEX)
    def finish(self, index: int) -> None:
        lease = self.leases[index % len(self.leases)]
        job, expected = self._of(lease), self.jobs.get(lease.job)
        finished = self.stores.queue.finish(lease, lease.token.encode())
        again = expected is not None and expected.state is State.DONE and expected.token == lease.token
        assert finished is (again or (job is not None and not job.cancelling))
        if job is not None:
            job.end(State.CANCELLED if job.cancelling else State.DONE)
            job.result = lease.token.encode() if finished else None

    @precondition(lambda self: self.leases)
    @rule(index=INDEX, how=st.sampled_from(["retry", "release", "fail", "cancelled"]))
    def give_up(self, index: int, how: str) -> None:
        lease = self.leases[index % len(self.leases)]
        job, last = self._of(lease), how == "retry" and lease.attempt == ATTEMPTS
        arguments: dict[str, tuple[Any, ...]] = {
            "retry": ("why", 3.0),
            "release": (3.0,),
            "fail": ({"message": "why"},),
        }
        changed = getattr(self.stores.queue, how)(lease, *arguments.get(how, ()))
        assert changed is (job is not None and (how != "cancelled" or job.cancelling))
        if job is None or not changed:
            return
        if how == "cancelled" or (job.cancelling and how != "fail" and not last):
            job.end(State.CANCELLED)
        elif how == "fail" or last:
            job.end(State.FAILED)
        else:
            job.state, job.not_before = State.QUEUED, self.stores.clock.now + 3
            job.attempts -= how == "release"

    @precondition(lambda self: self.leases)
    @rule(index=INDEX)
    def survive(self, index: int) -> None:
        """A worker that was late takes back the death that it was thought to have died, and no other."""
        lease = self.leases[index % len(self.leases)]
        job = self.jobs.get(lease.job)
        pardoned = job is not None and not job.state.final and job.token != lease.token and job.crashes > 0
        assert self.stores.queue.survived(lease) is pardoned
        if job is not None:
            job.crashes -= pardoned

    @precondition(lambda self: self.jobs)
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        name = list(self.jobs)[index % len(self.jobs)]
        job = self.jobs[name]
        left = self.stores.store.cancel(name, job.owner)
        assert (left is None) is job.state.final
        if job.state.final:
            del self.jobs[name]
        elif job.state is State.QUEUED:
            job.end(State.CANCELLED)
        else:
            job.cancelling = True

    @rule(seconds=st.sampled_from([1.0, LEASE_S / 2, LEASE_S + 2]))
    def pass_time(self, seconds: float) -> None:
        self.stores.clock.now += seconds

    @invariant()
    def every_job_is_what_it_must_be(self) -> None:
        found = {job.id: job for owner in "ab" for job in self.stores.store.page(1000, owner=owner)}
        assert found.keys() == self.jobs.keys(), "a job was lost, or came back"
        for name, job in self.jobs.items():
            assert (found[name].state, found[name].cancelling) == (job.state, job.cancelling)
            assert job.ends <= 1 and found[name].attempts <= ATTEMPTS
            assert self.stores.store.result(name, job.owner) == job.result


def test_any_schedule(database: str) -> None:
    machine = type("Here", (Schedule,), {"url": database})
    examples = 25 if database.startswith("sqlite") else 8
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=checks),
    )
