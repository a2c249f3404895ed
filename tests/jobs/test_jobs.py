"""Jobs: accepted jobs are not lost, each is completed once, and a worker without its lease changes nothing."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from components.errors import ConfigError, KeyReusedError
from components.jobs.job import (
    JobNotFoundError,
    JobProgress,
    Preview,
    QueueBusyError,
    QueueFullError,
    QueueStatus,
    State,
)
from components.jobs.job import LeaseStatus as S
from components.jobs.queue import JobQueue
from components.jobs.signing import read_secrets, signed_headers
from components.jobs.store import JobStore
from components.jobs.tables import TABLES
from tests.fixtures.job_stores import ATTEMPTS, LEASE_S, NEW, JobStores, database, stores

__all__ = ["database", "stores"]


def test_a_job_from_its_submission_to_its_sweep(stores: JobStores, tmp_path: Path) -> None:
    job = stores.submit()
    assert stores.store.get(job).progress == JobProgress(0, 8, 0, 2) and stores.store.result(job) is None
    lease = stores.queue.claim()
    assert lease is not None and (lease.job, lease.payload, lease.attempt) == (job, NEW.payload, 1)
    assert stores.queue.claim() is None, "nobody else takes it"
    assert stores.queue.renew(lease, JobProgress(3, 8, 0, 2), [Preview(1, 2, b"look")]) is S.HELD
    running = stores.store.get(job)
    assert running.state == "running" and running.progress.step == 3 and running.started is not None
    assert stores.queue.finish(lease, b"pictures") and stores.queue.finish(lease, b"pictures"), "and again, in doubt"
    done = stores.store.get(job)
    assert (done.state, done.progress) == ("done", JobProgress(8, 8, 2, 2)) and done.ended is not None
    assert stores.store.result(job) == b"pictures"
    with stores.engine.connect() as connection:
        assert connection.execute(sa.select(TABLES[0].c.payload)).scalar() is None, "what was asked for is forgotten"
    assert stores.store.sweep(keep_s=60) == 0
    stores.clock.now += 61
    assert stores.store.sweep(keep_s=60) == 1
    assert list((tmp_path / "results").iterdir()) == []
    with pytest.raises(JobNotFoundError):
        stores.store.get(job)


def test_what_is_shown_of_a_job_is_read_without_its_input(stores: JobStores) -> None:
    job, statements = stores.submit(key="once"), list[str]()
    sa.event.listen(stores.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    assert stores.store.get(job).id == job and [each.id for each in stores.store.page()] == [job]
    assert stores.store.update_since(job, 0) is not None
    assert stores.store.known(replace(NEW, key="once")) is not None
    assert len(statements) >= 4 and not any("payload" in statement for statement in statements)


def test_a_lease_that_ran_out_is_another_workers(stores: JobStores, tmp_path: Path) -> None:
    job = stores.submit()
    late = stores.queue.claim()
    assert late is not None
    stores.clock.now += LEASE_S / 2
    assert stores.queue.renew(late) is S.HELD
    stores.clock.now += LEASE_S * 0.9
    assert stores.queue.claim() is None, "the heartbeat has counted"
    stores.clock.now += LEASE_S
    assert stores.queue.lease_status(late) is S.HELD, "nobody has asked for it yet"
    second = stores.queue.claim()
    assert second is not None and (second.job, second.attempt) == (job, 2)
    assert stores.queue.lease_status(late) is S.LOST and stores.queue.renew(late) is S.LOST
    assert not stores.queue.finish(late, b"late") and not stores.queue.fail(late, {"message": "late"})
    assert not stores.queue.retry(late, "late") and not stores.queue.release(late)
    assert stores.queue.finish(second, b"second")
    assert not stores.queue.finish(late, b"later still")
    assert stores.store.result(job) == b"second"
    assert len(list((tmp_path / "results").iterdir())) == 1, "what is dropped leaves no file"


def test_attempts_are_bounded_however_they_end(stores: JobStores) -> None:
    queue = JobQueue(stores.engine, stores.files, LEASE_S, ATTEMPTS, stores.clock, max_crashes=9)
    gave_up = stores.submit()
    for _ in range(ATTEMPTS):
        lease = queue.claim()
        assert lease is not None and queue.retry(lease, "internal error", delay_s=1)
        stores.clock.now += 2
    died = stores.submit()
    for _ in range(ATTEMPTS):
        lease = queue.claim()
        assert lease is not None and lease.job == died
        stores.clock.now += LEASE_S + 1
    assert queue.claim() is None
    for job, reason in ((died, "the worker died"), (gave_up, "internal error")):
        found = stores.store.get(job)
        assert (found.state, found.attempts) == ("failed", ATTEMPTS)
        assert found.error == {"message": f"given up after 3 attempts: {reason}", "param": None} | {
            "code": "attempts_exhausted"
        }


def test_what_was_not_begun_is_no_attempt_and_waits_its_time(stores: JobStores) -> None:
    stores.submit()
    for _ in range(2 * ATTEMPTS):
        lease = stores.queue.claim()
        assert lease is not None and lease.attempt == 1
        assert stores.queue.release(lease, delay_s=2)
        assert stores.queue.claim() is None
        stores.clock.now += 3


def test_owners_take_turns_and_each_ones_oldest_is_first(stores: JobStores) -> None:
    many = [stores.submit(owner="many") for _ in range(3)]
    few = [stores.submit(owner="few") for _ in range(2)]
    leases = [stores.queue.claim() for _ in range(5)]
    assert [lease and lease.job for lease in leases] == [many[0], few[0], many[1], few[1], many[2]]


def test_the_queue_is_bounded(stores: JobStores) -> None:
    jobs = [stores.submit(key=f"k{i}") for i in range(5)]
    with pytest.raises(QueueFullError):
        stores.submit()
    assert stores.submit(key="k0") == jobs[0], "what is known already needs no room"
    assert stores.queue.claim() is not None
    stores.submit()
    with pytest.raises(QueueFullError):
        stores.submit()


def test_a_key_makes_one_job(stores: JobStores) -> None:
    first, new = stores.store.submit(replace(NEW, key="k"))
    again, newer = stores.store.submit(replace(NEW, key="k"))
    assert (first.id, new, newer) == (again.id, True, False)
    with pytest.raises(KeyReusedError):
        stores.store.submit(replace(NEW, key="k", digest="other"))
    assert stores.submit(key="k", owner="someone else") != first.id
    with ThreadPoolExecutor(8) as executor:
        results = list(executor.map(lambda _: stores.store.submit(replace(NEW, key="together")), range(8)))
    assert len({job.id for job, _ in results}) == 1 and sum(new for _, new in results) == 1


def test_jobs_are_their_owners(stores: JobStores) -> None:
    job = stores.submit(owner="a")
    for call in (stores.store.get, stores.store.result, stores.store.cancel):
        with pytest.raises(JobNotFoundError):
            call(job, "b")
    assert stores.store.page(owner="b") == [] and [j.id for j in stores.store.page(owner="a")] == [job]


def test_pages_are_newest_first_and_survive_deletions(stores: JobStores) -> None:
    ids = [stores.submit() for _ in range(5)]
    assert [job.id for job in stores.store.page(2)] == [ids[4], ids[3]]
    stores.store.cancel(ids[3])
    assert stores.store.cancel(ids[3]) is None
    assert [job.id for job in stores.store.page(2, ids[3])] == [ids[2], ids[1]]


@pytest.mark.parametrize("hostile", ["", "..", "job-", "job-" + "g" * 28, "job-" + "0" * 28, "x\0", "%"])
def test_ids_are_never_paths(stores: JobStores, hostile: str) -> None:
    for call in (stores.store.get, stores.store.result, stores.store.cancel):
        with pytest.raises(JobNotFoundError):
            call(hostile)


def test_cancelling(stores: JobStores) -> None:
    waiting, running = stores.submit(), stores.submit()
    cancelled = stores.store.cancel(waiting)
    assert cancelled is not None and cancelled.state == "cancelled"
    lease = stores.queue.claim()
    assert lease is not None and lease.job == running
    asked = stores.store.cancel(running)
    assert asked is not None and (asked.state, asked.cancelling) == ("running", True)
    assert stores.store.cancel(running) == asked, "asking twice is asking once"
    assert stores.queue.lease_status(lease) is S.CANCELLED and stores.queue.renew(lease) is S.CANCELLED
    assert not stores.queue.finish(lease, b"too late"), "what its owner does not want is not shown"
    assert stores.state(running) == "cancelled" and stores.store.result(running) is None
    assert stores.store.cancel(running) is None and stores.store.cancel(waiting) is None
    assert stores.store.page() == []


def test_a_cancelled_job_of_a_dead_worker_is_not_begun_again(stores: JobStores) -> None:
    job = stores.submit()
    assert stores.queue.claim() is not None
    stores.store.cancel(job)
    stores.clock.now += LEASE_S + 1
    assert stores.queue.claim() is None and stores.state(job) == "cancelled"


def test_deleting_a_finished_job_removes_its_result(stores: JobStores, tmp_path: Path) -> None:
    job = stores.submit(key="k")
    lease = stores.queue.claim()
    assert lease is not None and stores.queue.finish(lease, b"pictures")
    assert len(list((tmp_path / "results").iterdir())) == 1
    assert stores.store.cancel(job) is None
    assert list((tmp_path / "results").iterdir()) == []
    assert stores.submit(key="k") != job, "the key is free again"


def test_news_are_what_is_newer(stores: JobStores) -> None:
    job = stores.submit()
    seen = stores.store.get(job).revision
    assert stores.store.update_since(job, seen) is None
    lease = stores.queue.claim()
    assert lease is not None
    stores.queue.renew(lease, JobProgress(2, 8, 0, 2), [Preview(0, 1, b"a"), Preview(1, 1, b"b")])
    news = stores.store.update_since(job, seen)
    assert news is not None and [(p.picture, p.png) for p in news.previews] == [(0, b"a"), (1, b"b")]
    middle = news.job.revision
    stores.queue.renew(lease, JobProgress(4, 8, 0, 2), [Preview(1, 2, b"c")])
    later = stores.store.update_since(job, middle)
    assert later is not None and [(p.picture, p.step, p.png) for p in later.previews] == [(1, 2, b"c")]
    everything = stores.store.update_since(job, 0)
    assert everything is not None and [p.png for p in everything.previews] == [b"a", b"c"], "the newest of each"
    stores.queue.finish(lease, b"pictures")
    end = stores.store.update_since(job, later.job.revision)
    assert end is not None and end.job.state == "done" and end.previews == []


def test_a_crash_between_result_and_row_leaves_nothing_for_long(stores: JobStores, tmp_path: Path) -> None:
    done = stores.submit()
    lease = stores.queue.claim()
    assert lease is not None and stores.queue.finish(lease, b"kept")
    orphan, half = tmp_path / "results" / f"{done}.0123", tmp_path / "results" / ".job-1.2.partial"
    for path in (orphan, half):
        path.write_bytes(b"x")
    assert stores.store.sweep(keep_s=1e9) == 0, "what is young may still be in the making"
    for path in (tmp_path / "results").iterdir():
        os.utime(path, (time.time() - 7200,) * 2)
    assert stores.store.sweep(keep_s=1e9) == 2
    assert stores.store.result(done) == b"kept"


def test_webhooks_are_sent_until_they_arrive_or_are_given_up(stores: JobStores) -> None:
    good, bad, silent = (stores.submit(webhook=f"https://{name}") for name in ("good", "bad", "silent"))
    quiet = stores.submit()
    assert stores.webhook_queue.claim() is None, "nothing has ended"
    while lease := stores.queue.claim():
        stores.queue.finish(lease, b"pictures")
    told = [stores.webhook_queue.claim() for _ in range(3)]
    messages = {message.job.id: message for message in told if message}
    assert set(messages) == {good, bad, silent} and stores.webhook_queue.claim() is None
    assert (messages[good].url, messages[good].attempt, messages[good].job.state) == ("https://good", 1, "done")
    stores.webhook_queue.delivered(messages[good])
    stores.webhook_queue.failed(messages[bad], "answered with 500")
    stores.clock.now += 5
    second = stores.webhook_queue.claim()
    assert second is not None and (second.job.id, second.attempt) == (bad, 2)
    stores.webhook_queue.failed(messages[bad], "an answer that comes late")
    webhook = stores.store.get(bad).webhook
    assert webhook is not None and webhook.error == "answered with 500"
    stores.webhook_queue.failed(second, "answered with 501")
    stores.clock.now += 9
    assert stores.webhook_queue.claim() is None, "each wait is twice as long"
    stores.clock.now += 1
    third = stores.webhook_queue.claim()
    assert third is not None and third.attempt == 3
    stores.webhook_queue.failed(third, "answered with 502")
    for _ in range(3):  # the sender dies each time
        stores.clock.now += 61
        stores.webhook_queue.claim()
    told_of = {job: stores.store.get(job).webhook for job in (good, bad, silent, quiet)}
    assert {job: hook and (hook.state, hook.attempts, hook.error) for job, hook in told_of.items()} == {
        good: ("delivered", 1, None),
        bad: ("failed", 3, "answered with 502"),
        silent: ("failed", 3, "the sender died"),
        quiet: None,
    }


def test_signatures_are_those_of_the_standard() -> None:
    """The example of the specification's libraries."""
    secrets = read_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    headers = signed_headers(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    for weak in ("", "whsec_", "whsec_!", "whsec_" + base64.b64encode(b"short").decode(), "whsec_ü"):
        with pytest.raises(ConfigError, match="webhook_secret"):
            read_secrets(weak)


def test_connections_that_the_server_drops_are_replaced(tmp_path: Path, postgres_url: str) -> None:
    stores = JobStores(tmp_path, postgres_url)
    job = stores.submit()
    lease = stores.queue.claim()
    assert lease is not None
    others = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    killer = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    for change in (lambda: stores.queue.renew(lease) is S.HELD, lambda: stores.queue.finish(lease, b"pictures")):
        with killer.connect() as connection:
            connection.execute(others)
        assert change()
    assert stores.store.result(job) == b"pictures"


def process(tmp_path: Path, database: str, mode: str) -> subprocess.Popen[str]:
    """A worker that waits for a line on its standard input."""
    command = [sys.executable, "-m", "tests.fakes.jobs_process", database, str(tmp_path / "results"), mode]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    return worker


def test_two_processes_share_a_queue(tmp_path: Path, database: str) -> None:
    stores = JobStores(tmp_path, database, max_queued=100)
    jobs = {stores.submit() for _ in range(60)}
    stores.engine.dispose()
    workers = [process(tmp_path, database, "drain") for _ in range(2)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert all(claimed) and sorted(job for done in claimed for job in done) == sorted(jobs)
    found = stores.store.page(100)
    assert {(job.state, job.attempts) for job in found} == {("done", 1)} and len(found) == 60
    assert {stores.store.result(job.id) for job in found} == {b"drained"}


def test_a_killed_workers_job_is_anothers(tmp_path: Path, database: str) -> None:
    stores = JobStores(tmp_path, database)
    job = stores.submit()
    queue = JobQueue(stores.engine, stores.files, lease_s=30, max_attempts=3)
    worker = process(tmp_path, database, "hold")
    try:
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
        assert worker.stdout.readline().strip() == job
        time.sleep(0.7)
        assert queue.claim() is None, "its heartbeats keep it longer than one lease"
    finally:
        worker.kill()
        worker.communicate()
    deadline, lease = time.monotonic() + 10, None
    while lease is None and time.monotonic() < deadline:
        lease = queue.claim()
    assert lease is not None and (lease.job, lease.attempt) == (job, 2)
    assert queue.finish(lease, b"by another")
    assert (stores.state(job), stores.store.result(job)) == ("done", b"by another")


def test_jobs_know_no_platform() -> None:
    modules = ("webhook_queue", "queue", "result_files", "signing", "store")
    read = "; ".join(f"import components.jobs.{module}" for module in modules)
    shown = subprocess.run([sys.executable, "-c", f"{read}; import sys; print(*sys.modules)"], capture_output=True)
    loaded = {name.split(".")[0] for name in shown.stdout.decode().split()}
    assert "sqlalchemy" in loaded
    assert not loaded & {"ray", "fastapi", "starlette", "httpx", "requests", "mlflow", "torch"}


def test_an_owner_may_fill_its_share_of_the_queue_and_leaves_the_rest_to_others(stores: JobStores) -> None:
    store = JobStore(stores.engine, stores.files, 5, stores.clock, max_owned=2)

    def submit(owner: str) -> None:
        store.submit(replace(NEW, owner=owner))

    submit("greedy")
    submit("greedy")
    with pytest.raises(QueueFullError):
        submit("greedy")
    for other in ("one", "two", "three"):
        submit(other)
    with pytest.raises(QueueBusyError):
        submit("late")
    with pytest.raises(QueueFullError):
        submit("greedy")
    lease = stores.queue.claim()
    assert lease is not None
    submit("late")


def test_the_queue_status_counts_every_owners_jobs(stores: JobStores) -> None:
    assert stores.store.queue_status() == QueueStatus({})
    first, second = stores.submit(owner="one"), stores.submit(owner="two")
    stores.clock.now += 10
    queue_status = stores.store.queue_status()
    assert queue_status.states == {State.QUEUED: 2} and 10 < queue_status.oldest_s < 11 and queue_status.mean_s == 0
    lease = stores.queue.claim()
    assert lease is not None and lease.job == first
    stores.clock.now += 3
    stores.queue.finish(lease, b"{}")
    queue_status = stores.store.queue_status()
    assert queue_status.states == {State.QUEUED: 1, State.DONE: 1} and 3 < queue_status.mean_s < 3.1
    stores.store.cancel(second, "two")
    assert stores.store.queue_status().states == {State.CANCELLED: 1, State.DONE: 1}
