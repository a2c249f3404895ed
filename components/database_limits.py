"""Time limits of connections and statements, kept on this side: a server whose packets are dropped reports none.

PostgreSQL (psycopg): each answer is waited for at most for the statement limit, and a connection from the pool has to
answer a ping within the connect limit. The server ends statements and idle transactions, too, so that a client that
is cut off holds no locks. After an attempt to connect has timed out, others fail at once for a while.
SQLite: statements are interrupted, and wait as long for a lock.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import sqlalchemy as sa

#: Seconds between two attempts to connect after one has timed out.
_PAUSE_S = 1.0
#: Seconds by which this side waits longer for an answer than the server works on a statement.
_MARGIN_S = 1.0
#: SQLite asks for the deadline once in as many instructions of its virtual machine.
_INSTRUCTIONS = 10_000
#: Seconds for which SQLite waits for a lock if statements have no limit.
_LOCK_S = 600.0


def create_limited_engine(url: str, connect_s: float, statement_s: float | None, **options: Any) -> sa.Engine:
    """An engine with time limits. Databases other than SQLite and PostgreSQL over psycopg only limit the pool's wait.

    Args:
        connect_s: for a connection, from the server or from the pool.
        statement_s: for a statement; None sets no limit.
        options: of `sqlalchemy.create_engine`.
    """
    driver = sa.make_url(url).get_dialect().driver
    if driver == "pysqlite":
        options["connect_args"] = {"factory": _LimitedSqlite}
    # Connections that the server has closed are replaced; values do not appear in logs and errors.
    options |= {"pool_timeout": connect_s, "pool_pre_ping": driver != "psycopg", "hide_parameters": True}
    engine = sa.create_engine(url, **options)
    if driver == "pysqlite":
        _limit_sqlite(engine, statement_s)
    elif driver == "psycopg":
        _limit_postgres(engine, connect_s, statement_s)
    return engine


class _LimitedSqlite(sqlite3.Connection):
    #: A list of one value: the progress handler refers to it rather than to its connection.
    deadline: list[float]


def _limit_sqlite(engine: sa.Engine, statement_s: float | None) -> None:
    def connected(connection: _LimitedSqlite, _: Any) -> None:
        deadline = connection.deadline = [math.inf]
        connection.execute(f"PRAGMA busy_timeout = {int((statement_s or _LOCK_S) * 1000)}")
        connection.set_progress_handler(lambda: time.monotonic() > deadline[0], _INSTRUCTIONS)

    def executing(connection: sa.Connection, *_: Any) -> None:
        if statement_s is not None:
            connection.connection.dbapi_connection.deadline[0] = time.monotonic() + statement_s  # type: ignore[union-attr]

    def ending(connection: sa.Connection) -> None:
        connection.connection.dbapi_connection.deadline[0] = math.inf  # type: ignore[union-attr]

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "before_cursor_execute", executing)
    sa.event.listen(engine, "commit", ending)
    sa.event.listen(engine, "rollback", ending)


def _limit_postgres(engine: sa.Engine, connect_s: float, statement_s: float | None) -> None:
    kind, attempts = _limited_connection_class(), _ConnectAttempts(connect_s)
    seconds = max(1, math.ceil(connect_s))
    # A packet that is not acknowledged ends the connection after the connect limit (Linux).
    tcp = {"connect_timeout": seconds, "tcp_user_timeout": seconds * 1000}
    tcp |= {"keepalives": 1, "keepalives_idle": seconds, "keepalives_interval": seconds, "keepalives_count": 3}

    def connect(_dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        with attempts.attempt():
            connection = kind.connect(*arguments, **(tcp | options))
        connection.answer_s = connect_s
        if statement_s is not None:
            connection.limit_statements(statement_s)
        connection.answer_s = None if statement_s is None else statement_s + _MARGIN_S
        return connection

    def ping(connection: Any, _record: Any, _proxy: Any) -> None:
        if not connection.answers(connect_s):
            raise sa.exc.InvalidatePoolError

    sa.event.listen(engine, "do_connect", connect)
    sa.event.listen(engine, "checkout", ping)


class _ConnectAttempts:
    """Lets one caller at a time find out whether a server is back; raises psycopg's OperationalError for the others."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s, self._lock, self._refused_until = connect_s, Lock(), -math.inf

    @contextmanager
    def attempt(self) -> Iterator[None]:
        import psycopg

        with self._lock:
            now = time.monotonic()
            if now < self._refused_until:
                raise psycopg.OperationalError("the server did not answer a moment ago")
            if self._refused_until > -math.inf:  # this is the one that tries
                self._refused_until = now + self._connect_s + _PAUSE_S
        try:
            yield
        except psycopg.errors.ConnectionTimeout:
            self._refused_until = time.monotonic() + _PAUSE_S
            raise
        except BaseException:
            self._refused_until = -math.inf
            raise
        self._refused_until = -math.inf


@cache
def _limited_connection_class() -> Any:
    """The class is made here, since psycopg is an extra."""
    import psycopg

    class LimitedConnection(psycopg.Connection[Any]):
        """Is closed, and raises OperationalError, if an answer takes longer than ``answer_s`` seconds."""

        answer_s: float | None = None

        def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
            if self.answer_s is None:
                return super().wait(gen, *arguments, **options)
            return super().wait(self._limited(gen, time.monotonic() + self.answer_s), *arguments, **options)

        def _limited(self, gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
            """``gen``, which psycopg resumes when the socket is ready, and otherwise several times a second."""
            try:
                state = next(gen)
                while True:
                    ready = yield state
                    if not ready and time.monotonic() > deadline:
                        self.pgconn.finish()
                        raise psycopg.OperationalError("the server does not answer")
                    state = gen.send(ready)
            except StopIteration as end:
                return end.value

        def limit_statements(self, seconds: float) -> None:
            """Have the server cancel statements after ``seconds``, and end transactions that are idle twice as long."""
            limits = {"statement_timeout": seconds, "idle_in_transaction_session_timeout": 2 * seconds}
            autocommit = self.autocommit
            self.autocommit = True
            for name, value in limits.items():
                self.execute("SELECT set_config(%s, %s, false)", [name, f"{math.ceil(value * 1000)}ms"])
            self.autocommit = autocommit

        def answers(self, seconds: float) -> bool:
            """Whether the server answers within ``seconds``."""
            autocommit, limit_s = self.autocommit, self.answer_s
            try:
                self.answer_s = seconds
                self.autocommit = True
                self.execute("SELECT 1")
                self.autocommit = autocommit
            except psycopg.Error:
                return False
            finally:
                self.answer_s = limit_s
            return True

    return LimitedConnection
