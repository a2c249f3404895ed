"""Trouble beside a job: it outlasts what fails around it, and does not take workers with it."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from components.access.limits import Cost, QuotaError, UsageLedger
from components.database import open_database
from components.jobs.job import JobProgress, Lease
from components.jobs.queue import JobQueue
from components.jobs.store import JobStore
from components.jobs.tables import jobs
from tests.fixtures.job_stores import ATTEMPTS, LEASE_S, JobStores, database, stores

__all__ = ["database", "stores"]


def claimed(stores: JobStores) -> Lease:
    lease = stores.queue.claim()
    assert lease is not None
    return lease


def test_a_job_waits_for_the_infrastructure_longer_each_time_and_then_gives_up(stores: JobStores) -> None:
    job, began, waits = stores.submit(), stores.clock.now, []
    while stores.state(job) == "queued":
        lease = claimed(stores)
        assert lease.attempt == 1, "what the infrastructure fails is no attempt"
        assert stores.queue.postpone(lease, "no generator")
        waited = stores.clock.now
        while stores.state(job) == "queued" and stores.queue.claim() is None:
            stores.clock.now += max(1.0, (stores.clock.now - waited) / 4)
        if stores.state(job) == "running":
            waits.append(stores.clock.now - waited)
            with stores.engine.begin() as connection:
                connection.execute(jobs.update().values(state="queued", attempts=0))
    assert waits == sorted(waits) and waits[0] < 3 and 100 < waits[-1] < 160
    assert 3600 < stores.clock.now - began < 3600 + 300
    error = stores.store.get(job).error
    assert error is not None and error["code"] == "gave_up" and "no generator" in error["message"]


def test_a_generator_that_works_again_ends_the_trouble(stores: JobStores) -> None:
    job = stores.submit()
    for _ in range(3):
        assert stores.queue.postpone(claimed(stores), "no generator")
        stores.clock.now += 3000
        stores.queue.renew(lease := claimed(stores), JobProgress(1, 8, 0, 2))
        assert stores.queue.postpone(lease, "no generator")
        stores.clock.now += 3000
    assert stores.state(job) == "queued"


def test_a_job_that_kills_accuses_nobody_else(stores: JobStores) -> None:
    """Whoever is processed with it is suspected, too, and then processed alone."""
    killer, *innocent = (stores.submit() for _ in range(4))
    late = stores.submit()
    for _ in range(4):
        claimed(stores)
    stores.clock.now += LEASE_S + 1  # the worker dies
    done = set[str]()
    for _ in range(10):
        if (lease := stores.queue.claim()) is None:
            break
        together = [lease, *filter(None, [stores.queue.claim()])]
        assert len({each.job for each in together} - {late}) <= 1, "one suspect at a time"
        if killer in {each.job for each in together}:
            stores.clock.now += LEASE_S + 1
            continue
        for each in together:
            assert stores.queue.finish(each, b"pictures")
            done.add(each.job)
    stores.clock.now += LEASE_S + 1
    assert stores.queue.claim() is None
    assert done == {*innocent, late} and stores.state(killer) == "failed"


def test_a_suspected_job_is_processed_alone(tmp_path: Path, database: str) -> None:
    """An owner's many jobs that kill take no other owner's job with them, and each kills once beside others."""
    stores = JobStores(tmp_path, database, max_queued=100)
    queue = stores.queue
    killers = [stores.submit(owner="killer") for _ in range(6)]
    innocent = [stores.submit(owner="other") for _ in range(6)]
    deaths: list[set[str]] = []
    for _ in range(200):
        leases = list(takewhile(bool, (queue.claim() for _ in range(4))))
        together = {lease.job for lease in leases if lease}
        suspected = together & set().union(*deaths)
        assert not suspected or len(together) == 1, "nothing is begun beside it, and it beside nothing"
        if together & set(killers):
            deaths.append(together)
            stores.clock.now += LEASE_S + 1
        for lease in leases:
            if lease and not together & set(killers):
                assert queue.finish(lease, b"pictures")
        stores.clock.now += 1
    assert {stores.state(job, "other") for job in innocent} == {"done"}
    assert {stores.state(job, "killer") for job in killers} == {"failed"}
    for job in killers:
        assert [len(death) > 1 for death in deaths if job in death] in ([True, False], [False, False])


def test_a_suspected_job_waits_a_minute_for_the_others_and_holds_them_up_for_one(stores: JobStores) -> None:
    suspected = stores.submit()
    assert stores.queue.suspect(claimed(stores), "a part was restarted")
    long = stores.submit()
    lease = claimed(stores)
    assert lease.job == long, "the suspected one still waits for its turn"
    stores.clock.now += 6
    stores.submit()
    for _ in range(6):
        assert stores.queue.claim() is None, "nothing is begun while it waits"
        stores.clock.now += LEASE_S - 1
        stores.queue.renew(lease)
    stores.clock.now += LEASE_S - 1
    assert claimed(stores).job == suspected and stores.queue.claim() is None


def test_one_death_is_enough_if_the_operator_says_so_and_the_job_was_alone(stores: JobStores) -> None:
    queue = JobQueue(stores.engine, stores.files, LEASE_S, ATTEMPTS, stores.clock, max_crashes=1)
    alone = stores.submit()
    assert queue.suspect(claimed(stores), "a part was restarted") and stores.state(alone) == "failed"
    alone = stores.submit()
    claimed(stores)
    for _ in range(2):
        stores.clock.now += LEASE_S + 1
        assert queue.claim() is None
    assert stores.state(alone) == "failed", "nor does it kill a second worker"
    pair = [stores.submit(), stores.submit()]
    for lease in [claimed(stores), claimed(stores)]:
        assert queue.suspect(lease, "a part was restarted")
    assert [stores.state(job) for job in pair] == ["queued"] * 2, "nobody knows which one it was"
    stores.clock.now += 6
    for state in ("done", "failed"):
        lease = queue.claim()
        assert lease is not None and queue.claim() is None
        assert queue.finish(lease, b"pictures") if state == "done" else queue.suspect(lease, "a part was restarted")
        assert stores.state(lease.job) == state


def test_a_generator_that_dies_with_a_job_counts_as_a_worker_does(stores: JobStores) -> None:
    job = stores.submit()
    assert stores.queue.suspect(claimed(stores), "a part was restarted") and stores.state(job) == "queued"
    stores.clock.now += 6
    assert stores.queue.suspect(claimed(stores), "a part was restarted") and stores.state(job) == "failed"
    certain = stores.submit()
    assert stores.queue.suspect(claimed(stores), "it made no progress with it", certain=True)
    assert stores.state(certain) == "failed", "it does not kill a second one"


# Charges


def spent(stores: JobStores) -> int:
    return UsageLedger(stores.engine, stores.clock).spent().get("k", 0)


def test_a_job_and_its_charge_are_one(tmp_path: Path, database: str) -> None:
    stores = JobStores(tmp_path, database, max_queued=1)
    cost = Cost("k", 60, 100)
    stores.submit(cost=cost)
    assert spent(stores) == 60
    with pytest.raises(QuotaError, match="fewer than 60 are left"):
        stores.submit(cost=cost)
    roomy = JobStore(stores.engine, stores.files, 5, stores.clock)
    assert len(roomy.page()) == 1, "what cannot be charged is no job"
    with pytest.raises(Exception, match="too many jobs are waiting"):
        stores.submit(cost=Cost("k", 10, 100))
    assert spent(stores) == 60, "what is refused is not charged"


@pytest.mark.parametrize("end", ["fail", "attempts", "killed", "gave up"])
def test_every_failure_of_a_job_is_refunded_once(stores: JobStores, end: str) -> None:
    job = stores.submit(cost=Cost("k", 60, 100))
    queue = JobQueue(stores.engine, stores.files, LEASE_S, 1, stores.clock, give_up_s=0)
    lease = claimed(stores)
    if end == "fail":
        assert queue.fail(lease, {"message": "no"}) and not queue.fail(lease, {"message": "no"})
    elif end == "attempts":
        assert queue.retry(lease, "no")
    elif end == "killed":
        stores.clock.now += LEASE_S + 1
        assert queue.claim() is None
    else:
        assert queue.postpone(lease, "no generator")
        stores.clock.now += 2
        assert queue.postpone(claimed(stores), "no generator")
    assert (stores.state(job), spent(stores)) == ("failed", 0)


def test_jobs_of_an_earlier_release_are_gone_on_with(tmp_path: Path, database: str) -> None:
    """Its table lacks the columns of trouble and of charges."""
    added = {"trouble_since", "crashes", "charged_key", "charged_day", "charged_amount"}
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        old = [CreateColumn(c).compile(dialect=engine.dialect) for c in jobs.columns if c.name not in added]
        connection.exec_driver_sql(f"CREATE TABLE jobs ({', '.join(map(str, old))}, UNIQUE (owner, idempotency_key))")
        values = {c.name: 0 for c in jobs.columns if not c.nullable} | {"id": "job-" + "0" * 28, "owner": ""}
        values |= {"state": "queued", "digest": "d", "payload": {"prompt": "a robot"}, "cancelling": False}
        for name in added:
            values.pop(name, None)
        connection.execute(jobs.insert().values(values))
    engine = open_database(tmp_path, database)
    stores = JobStores(tmp_path, database)
    lease = claimed(stores)
    assert lease.job == values["id"] and lease.attempt == 1
    assert stores.queue.suspect(lease, "a part was restarted") and stores.state(lease.job) == "queued"


def test_a_job_that_two_workers_die_with_fails_unless_one_of_them_lives(stores: JobStores) -> None:
    """The one that lives had only lost its lease; it says so before another lease is over."""
    for lives in (False, True):
        job = stores.submit()
        leases = []
        for _ in range(2):
            leases.append(claimed(stores))
            stores.clock.now += LEASE_S + 1
        assert stores.queue.claim() is None and stores.state(job) == "queued"
        if lives:
            assert stores.queue.survived(leases[1])
        stores.clock.now += LEASE_S + 1
        last = stores.queue.claim()
        assert (last is not None) is lives
        if last is None:
            error = stores.store.get(job).error
            assert error is not None and error["code"] == "process_killed" and stores.store.get(job).attempts == 2
        else:
            assert stores.queue.finish(last, b"pictures") and stores.state(job) == "done"
            assert not stores.queue.survived(leases[0]), "it has ended"
