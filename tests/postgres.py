"""A real PostgreSQL for tests: one server for the whole run, and a fresh database for each test that asks for one.

Debian's packages bring it (``apt-get install postgresql``); tests that need it are skipped where it is missing.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

#: What a server that lives for minutes need not be: safe from power cuts, or reachable from elsewhere.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A PostgreSQL server of this run's own; the URL is its superuser's."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is missing: install the extra 'postgres'")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is missing: install Debian's package 'postgresql'")
    with tempfile.TemporaryDirectory(prefix="realcustom-postgres-") as folder, _running(programs, Path(folder)) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """The URL ``postgresql+psycopg://…``, password included, of an empty database that goes with the test."""
    with fresh_database(postgres_server) as url:
        yield url


@contextmanager
def fresh_database(server: sa.URL) -> Iterator[str]:
    """An empty database of ``server`` for the length of the block, dropped with whatever is still connected to it."""
    name = f"test_{secrets.token_hex(6)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def _running(programs: Path, folder: Path) -> Iterator[sa.URL]:
    """A server whose files are in ``folder``, run by an ordinary user, since PostgreSQL refuses to be root's."""
    runner: dict[str, Any] = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    if os.geteuid() == 0:
        ordinary = _ordinary_user()
        runner |= {"user": ordinary.pw_uid, "group": ordinary.pw_gid, "extra_groups": []}
        os.chown(folder, ordinary.pw_uid, ordinary.pw_gid)
    data, password, port = folder / "data", secrets.token_hex(8), free_port()
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o644)
    cluster = ["--pgdata", data, "--username", "tester", "--encoding", "UTF8", "--no-locale", "--no-sync"]
    secret = ["--auth", "scram-sha-256", "--pwfile", folder / "password"]
    _call([programs / "initdb", *cluster, *secret], runner)
    options = " ".join(f"-c {name}='{value}'" for name, value in (_SETTINGS | {"port": str(port)}).items())
    control = [programs / "pg_ctl", "--pgdata", data, "--wait"]
    _call([*control, "--log", folder / "log", "--options", options, "start"], runner | {"stdout": subprocess.DEVNULL})
    try:
        yield sa.URL.create("postgresql+psycopg", "tester", password, "127.0.0.1", port, "postgres")
    finally:
        _call([*control, "--mode", "immediate", "stop"], runner)


def _call(command: list[str | Path], runner: dict[str, Any]) -> None:
    done = subprocess.run(command, check=False, timeout=120, **runner)
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout or (runner['cwd'] / 'log').read_text()}"


def _programs() -> Path | None:
    """Where the newest PostgreSQL's programs are; Debian keeps them out of PATH."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).parent


def _ordinary_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
