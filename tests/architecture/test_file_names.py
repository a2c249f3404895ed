"""A file name means one thing: files of two packages share a name only if they play the same part in both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from components.config import PACKAGE_ROOT

#: Shared name -> the part that its files play.
ALLOWED = {
    # The service
    "app": "creates an application: of FastAPI, of Ray Serve",
    "errors": "exceptions: of all components, of the service's parts",
    "events": "Server-Sent Events of a resource",
    "routes": "routes of a resource",
    "schema": "fields of records: a resource's JSON, a dataset's rows",
    "service": "a part of the service, and the commands that use it",
    "worker": "the loop of a background process",
    "stories": "stories: the client's part, and the protocol of the service's",
    # Storage
    "store": "stores and reads records of a database",
    "tables": "tables of a database",
    # Machine learning
    "tracker": "the interface of experiment tracking, and its implementation",
    # The HTTP API and its client
    "responses": "JSON of responses",
    # A command, and the component that it calls
    "admin": "the admin API: its client, and the commands that use it",
    "batch": "tables of prompts",
    "character": "characters",
    "database": "the database of the service",
    "generate": "images of prompts",
    "key": "API keys",
    "story": "stories",
    "studio": "the studio: the files of its page, and the command that opens it",
    "prepare": "preparation of a dataset",
    # The toy world and the storybook, each with its miniature
    "base": "the base model of a miniature",
    "corpus": "the images that a miniature is trained on",
    "identities": "identities of subjects",
    "identity_pictures": "images of identities, as rows of a dataset",
    "loop": "the training loop of a miniature's parts",
    "places": "places in images",
    "recognizer": "a network that recognizes subjects, and its training",
    "run": "runs all steps of an evaluation, a batch, a pretraining or a distillation",
    "scenes": "scenes of images",
    "vae": "the autoencoder of a miniature",
}


def shared_names(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Name -> the files of that name, if there are several."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        if path.stem not in ("__init__", "__main__"):
            files[path.stem].append(str(path))
    return {name: sorted(found) for name, found in files.items() if len(found) > 1}


def code_files() -> list[Path]:
    folders = ("components", "deploy", "workflows", "tools")
    return [path.relative_to(PACKAGE_ROOT) for folder in folders for path in (PACKAGE_ROOT / folder).rglob("*.py")]


def test_files_share_a_name_only_if_they_play_the_same_part() -> None:
    shared = shared_names(code_files())
    assert {name: files for name, files in shared.items() if name not in ALLOWED} == {}
    assert sorted(ALLOWED.keys() - shared.keys()) == [], "no longer shared: remove it from ALLOWED"


def test_a_shared_name_is_found() -> None:
    paths = [Path("a/rows.py"), Path("b/c/rows.py"), Path("b/tables.py"), Path("a/__init__.py"), Path("b/__init__.py")]
    assert shared_names(paths) == {"rows": ["a/rows.py", "b/c/rows.py"]}
