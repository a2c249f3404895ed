"""Inputs from the field that are no requests: rows of data, a service that waits for processors, and a unit test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.hostile.service import overrides
from components.config import load_config
from components.data.sources import read_source
from components.rehearsal.head_node import free_port

#: Seconds until a service that cannot start has to say what it waits for.
_SAYS_SO_S = 90.0
_ROOT = Path(__file__).parents[2]

#: Returns what is wrong, or an empty text. The arguments are the folder of the inputs, and one to write to.
Check = Callable[[Path, Path], str]


def cp1252_caption(folder: Path, work: Path) -> str:
    return _rows(folder / "cp1252_caption", "folder", rows=5, rejects=1)


def checkpoints_folder(folder: Path, work: Path) -> str:
    return _rows(folder / "checkpoints_folder", "folder", rows=5, passed_over=2)


def other_endings(folder: Path, work: Path) -> str:
    return _rows(folder / "other_endings", "folder", rows=2)


def null_caption(folder: Path, work: Path) -> str:
    return _rows(folder / "null_caption", "parquet", rows=49, rejects=1)


def too_many_threads(folder: Path, work: Path) -> str:
    """A generator that asks for more processors than there are: ``/readyz`` says how many are missing."""
    port, wanted = free_port(), (os.cpu_count() or 1) + 1
    settings = overrides(work, (f"serving.generator_threads={wanted}", f"serving.port={port}"))
    settings.remove("serving.port=0")
    command = [sys.executable, "-m", "workflows.serve"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(_ROOT)}
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    process = subprocess.Popen([*command, "--preset", "tiny", *arguments], env=environment, stdout=subprocess.DEVNULL)
    said, deadline = "no answer", time.monotonic() + _SAYS_SO_S
    try:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
                said = answer.json()["error"]["message"] if answer.status_code == 503 else answer.text
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            if f"{wanted} CPU" in said:
                return ""
            time.sleep(1)
        return f"/readyz says: {said}"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def half_precision(folder: Path, work: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/model/test_model.py", "-k", "half_precision_works"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout[-300:]


CHECKS: dict[str, Check] = {
    "5 cp1252 caption": cp1252_caption,
    "6 checkpoints folder": checkpoints_folder,
    "7 other endings": other_endings,
    "8 null caption": null_caption,
    "15 too many threads": too_many_threads,
    "16 half precision": half_precision,
}


def _rows(source: Path, form: str, rows: int, rejects: int = 0, passed_over: int = 0) -> str:
    read = read_source(load_config("tiny", [f"data.source={source}", f"data.format={form}"]).data)
    found = (len(read.rows), len(getattr(read, "rejects", ())), sum(getattr(read, "passed_over", {}).values()))
    wanted = (rows, rejects, passed_over)
    return "" if found == wanted else f"rows, rejects and passed over are {found}, not {wanted}"
