"""A PostgreSQL server and a server that speaks S3, for the length of a measurement."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from components.errors import ConfigError
from components.rehearsal.head_node import free_port


@contextmanager
def postgres() -> Iterator[sa.URL]:
    """A PostgreSQL server with an empty database.

    Raises:
        ConfigError: PostgreSQL is not installed.
    """
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="realcustom-postgres-") as name:
        folder, port, password = Path(name), free_port(), secrets.token_hex(8)
        runner: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "check": True, "timeout": 120}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("nobody")
            runner |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        data = ["--pgdata", str(folder / "data")]
        login = ["--username", "bench", "--auth", "scram-sha-256", "--pwfile", str(folder / "password")]
        subprocess.run([programs / "initdb", *data, *login, "--encoding", "UTF8", "--no-locale", "--no-sync"], **runner)
        options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200"
        control = [programs / "pg_ctl", *data, "--wait"]
        subprocess.run([*control, "--log", folder / "log", "--options", options, "start"], **runner)
        try:
            yield sa.URL.create("postgresql+psycopg", "bench", password, "127.0.0.1", port, "postgres")
        finally:
            subprocess.run([*control, "--mode", "immediate", "stop"], **runner | {"check": False})


@contextmanager
def s3() -> Iterator[tuple[str, int]]:
    """Host and port of a server that speaks S3 (moto's), with the bucket ``hostile``."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    login = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "us-east-1"}
    try:
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", **login).create_bucket(Bucket="hostile")
        yield host, port
    finally:
        server.stop()


def _programs() -> Path:
    """Where the newest PostgreSQL's programs are; Debian keeps them out of PATH."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path is None:
        raise ConfigError(
            "the part 'outages' needs PostgreSQL: apt-get install postgresql, or leave it out with --only"
        )
    return Path(on_path).parent
