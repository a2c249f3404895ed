"""Services in processes of their own that begin at once: forked from one that has imported what they need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from types import TracebackType

import psutil

from components.config import PACKAGE_ROOT
from tests.fixtures.faults import environment_without_ray, kill_all


class ForkedServices:
    """Starts services (`tests.fakes.service_process`) that can be killed."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fakes.forked_services"]
        self._process = subprocess.Popen(
            command,
            cwd=PACKAGE_ROOT,
            env=environment_without_ray(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started: list[psutil.Process] = []

    def start(self, store: str, *overrides: str) -> tuple[str, psutil.Process]:
        """The URL and the process of a new service on ``store``."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        print(json.dumps([store, *overrides]), file=stdin, flush=True)
        started = psutil.Process(int(stdout.readline()))
        self._started.append(started)
        return stdout.readline().strip(), started

    def __enter__(self) -> ForkedServices:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        kill_all([psutil.Process(self._process.pid), *(each for each in self._started if each.is_running())])
        self._process.communicate()


def main() -> None:
    """Start a service for each line of the input, which holds its arguments."""
    from tests.fakes import service_process

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever is killed is gone at once
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            print(os.getpid(), flush=True)
            service_process.main(*json.loads(line))
            os._exit(0)


if __name__ == "__main__":
    main()
