"""The version of the code that a report of measurements is of."""

from __future__ import annotations

from pathlib import Path

from components.config import PACKAGE_ROOT
from components.fingerprint import digest_files
from components.registry.tracking import git_commit

_CODE = ("benchmarks", "components", "deploy", "tools", "workflows")
_ENDINGS = (".json", ".py", ".yaml")


def code_version(root: Path = PACKAGE_ROOT) -> str:
    """The commit; where files differ from it, or it is unknown, followed by a hash of the code.

    So what was measured with other code is never taken for a measurement of this one.
    """
    commit = git_commit()
    if commit != "unknown" and not commit.endswith("-dirty"):
        return commit
    files = (file for folder in _CODE for file in (root / folder).rglob("*") if file.suffix in _ENDINGS)
    return f"{commit}-{digest_files(root, (file.relative_to(root).as_posix() for file in files))}"
