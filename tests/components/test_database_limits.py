"""Time limits of connections and statements, with a server behind a black hole among others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from components.config import DatabaseLimits
from components.database import UNAVAILABLE, connect_database, connect_to_migrate
from tests.fixtures.tcp_proxy import TcpProxy

LIMITS = DatabaseLimits(connect_s=2, statement_s=3)
#: Seconds by which a busy machine exceeds a limit, and the client's margin.
SLACK_S = 2.5


@contextmanager
def unavailable_within(seconds: float, at_least: float = 0.0) -> Iterator[None]:
    start = time.monotonic()
    with pytest.raises(UNAVAILABLE):
        yield
    assert at_least <= time.monotonic() - start < seconds + SLACK_S


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[TcpProxy]:
    url = sa.make_url(postgres_url)
    with TcpProxy(str(url.host), url.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def engine(postgres_url: str, proxy: TcpProxy, tmp_path: Path) -> sa.Engine:
    return connect_database(tmp_path, behind(proxy, postgres_url), LIMITS)


def behind(proxy: TcpProxy, url: str) -> str:
    return sa.make_url(url).set(port=proxy.port).render_as_string(hide_password=False)


def ask(engine: sa.Engine, sql: str = "SELECT 1") -> object:
    with engine.connect() as connection:
        return connection.execute(sa.text(sql)).scalar_one()


def test_a_black_hole_is_noticed_at_every_point(engine: sa.Engine, proxy: TcpProxy) -> None:
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        connection.commit()
        connection.execute(sa.text("SELECT 1"))
        ask(engine)
        with proxy.black_hole():
            with unavailable_within(2 + 2, at_least=1.9):  # a ping, and another connection
                ask(engine)
            with unavailable_within(3 + 1, at_least=2.9):  # an answer
                connection.execute(sa.text("SELECT 1"))
    assert eventually(engine) < 5
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE rows (id INTEGER)"))
        with proxy.black_hole(), unavailable_within(3 + 1):
            connection.commit()


def test_of_those_who_connect_to_a_black_hole_only_one_waits(engine: sa.Engine, proxy: TcpProxy) -> None:
    with proxy.black_hole():
        with unavailable_within(2, at_least=1.9):
            ask(engine)
        time.sleep(1.1)
        with ThreadPoolExecutor(8) as threads:
            waited = sorted(threads.map(lambda _: failed_after(engine), range(8)))
        assert waited[-2] < 1 and 1.9 < waited[-1] < 2 + SLACK_S
    assert eventually(engine) < 5


def failed_after(engine: sa.Engine) -> float:
    start = time.monotonic()
    with pytest.raises(UNAVAILABLE):
        ask(engine)
    return time.monotonic() - start


def eventually(engine: sa.Engine) -> float:
    """Seconds until the database answers."""
    start = time.monotonic()
    while True:
        try:
            assert ask(engine) == 1
            return time.monotonic() - start
        except UNAVAILABLE:
            time.sleep(0.1)


def test_postgresql_ends_long_statements_and_idle_transactions(engine: sa.Engine) -> None:
    with unavailable_within(3, at_least=2.9):
        ask(engine, "SELECT pg_sleep(20)")
    assert ask(engine, "SHOW statement_timeout") == "3s"
    assert ask(engine, "SHOW idle_in_transaction_session_timeout") == "6s"


def test_migrations_take_as_long_as_they_need(postgres_url: str, tmp_path: Path) -> None:
    limits = DatabaseLimits(connect_s=2, statement_s=0.2)
    ask(connect_to_migrate(tmp_path, postgres_url, limits), "SELECT 1 FROM pg_sleep(2)")
    with unavailable_within(0.2):
        ask(connect_database(tmp_path, postgres_url, limits), "SELECT 1 FROM pg_sleep(2)")


def test_sqlite_ends_long_statements(tmp_path: Path) -> None:
    limits = DatabaseLimits(statement_s=0.5)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    engine = connect_database(tmp_path, None, limits)
    for _ in range(2):
        with unavailable_within(0.5, at_least=0.4):
            ask(engine, endless)
        assert ask(engine) == 1


def test_sqlite_waits_for_a_lock_no_longer(tmp_path: Path) -> None:
    engine = connect_database(tmp_path, None, DatabaseLimits(statement_s=0.5))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (id INTEGER)")
    with engine.begin() as first, engine.connect() as second:
        first.exec_driver_sql("INSERT INTO rows VALUES (1)")
        with unavailable_within(0.5, at_least=0.4):
            second.exec_driver_sql("INSERT INTO rows VALUES (2)")


def test_a_commit_long_after_its_statements_is_no_long_statement(tmp_path: Path) -> None:
    engine = connect_database(tmp_path, None, DatabaseLimits(statement_s=0.2))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (id INTEGER)")
        connection.execute(sa.text("INSERT INTO rows VALUES (:id)"), [{"id": number} for number in range(20_000)])
        time.sleep(0.4)
    assert ask(engine, "SELECT count(*) FROM rows") == 20_000


def test_a_free_connection_is_waited_for_no_longer(tmp_path: Path) -> None:
    engine = connect_database(tmp_path, None, LIMITS, pool_size=1, max_overflow=0)
    with engine.connect(), unavailable_within(2, at_least=1.9):
        engine.connect()
