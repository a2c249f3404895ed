"""A head node of Ray for a rehearsal, with ports, files and a token of its own, and the commands that use it."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]

from components.config import PACKAGE_ROOT
from components.errors import RealCustomError
from components.rehearsal.process_memory import MARKER, marked_processes
from components.sigterm import on_sigterm

logger = logging.getLogger(__name__)
_BIN = Path(sys.executable).parent
#: Seconds until the dashboard must answer.
_START_S = 180.0
#: Characters of a failed command's output that are shown.
_SHOWN = 4000


class HeadNode:
    """A head node, running for the length of `running`.

    Args:
        log: file that gets the output of all commands.
    """

    def __init__(self, log: Path, cpus: int, gpus: int) -> None:
        self.marker = secrets.token_hex(8)
        self._log, self._cpus, self._gpus = log, cpus, gpus
        self._port = free_port()
        self.dashboard = f"http://127.0.0.1:{self._port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._environment: Mapping[str, str] = inherited | {
            MARKER: self.marker,
            "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")])),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_API_SERVER_ADDRESS": self.dashboard,  # of `ray job`
            "RAY_DASHBOARD_ADDRESS": self.dashboard,  # of `serve`
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the node; at the end, by SIGTERM too, every process of the rehearsal is gone."""
        folder = Path(tempfile.mkdtemp(prefix="rc-"))  # short: Ray's sockets lie below it
        with on_sigterm(_exit):
            try:
                self._start(folder)
                self._wait()
                yield
            finally:
                self._kill_all()
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, folder: Path) -> None:
        options = {
            "port": free_port(),
            "dashboard-port": self._port,
            "ray-client-server-port": free_port(),
            "dashboard-agent-listen-port": free_port(),
            "metrics-export-port": free_port(),
            "dashboard-host": "127.0.0.1",
            "num-cpus": self._cpus,
            "num-gpus": self._gpus,
            "temp-dir": folder / "ray",
        }
        with self._log.open("ab") as log:
            subprocess.Popen(
                [_BIN / "ray", "start", "--head", "--block", *(f"--{name}={at}" for name, at in options.items())],
                cwd=folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def call(self, *command: str | Path, timeout_s: float) -> str:
        """Run a program of this environment; returns what it wrote to stdout.

        Raises:
            RealCustomError: it failed, or took longer than ``timeout_s``.
        """
        shown = shlex.join(map(str, command))
        logger.info("%s", shown)
        try:
            done = subprocess.run(
                [_BIN / command[0], *command[1:]],
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RealCustomError(f"{shown} took longer than {timeout_s:.0f} s; see {self._log}") from None
        with self._log.open("a") as log:
            log.write(f"$ {shown}\n{done.stdout}\n{done.stderr}\n")
        if done.returncode:
            said = (done.stdout + done.stderr)[-_SHOWN:]
            raise RealCustomError(f"{shown} failed ({done.returncode}), see {self._log}: {said}")
        return done.stdout

    def submit(self, module: str, *arguments: str, timeout_s: float, accepts: int = 0) -> str:
        """Run ``python -m module`` as a job on the cluster; returns what it printed.

        Args:
            accepts: a further exit status that is no failure.

        Raises:
            RealCustomError: the job failed.
        """
        words = ["python", "-m", module, *arguments]
        if accepts:
            words = ["sh", "-c", f"{shlex.join(words)} || test $? -eq {accepts}"]
        return self.call("ray", "job", "submit", "--", *words, timeout_s=timeout_s)

    def kill(self, name: str) -> int:
        """Kill the processes of this rehearsal whose command begins with ``name``; returns their number."""
        victims = [each for each in marked_processes(self.marker) if "".join(each.cmdline()[:1]).startswith(name)]
        for victim in victims:
            victim.kill()
        return len(victims)

    def _wait(self) -> None:
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            try:
                if httpx.get(self.dashboard, timeout=5).status_code < 500:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise RealCustomError(f"Ray did not start within {_START_S:.0f} s; see {self._log}")

    def _kill_all(self) -> None:
        for _ in range(3):  # a process may start another one before it dies
            victims = marked_processes(self.marker)
            for victim in victims:
                try:
                    victim.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(victims, timeout=10)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exit() -> None:
    """End by an exception, so that what is running is cleaned up."""
    raise SystemExit(128 + signal.SIGTERM)
