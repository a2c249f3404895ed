"""How large a body each path takes, in bytes and in JSON values."""

from __future__ import annotations

import re

from components.config import Config

#: Bodies of text alone; twice of what the longest prompts take with every character escaped.
_TEXT_BYTES = 256 * 1024
_TEXT_VALUES = 2000
#: Stories come with hundreds of panels.
_STORY_VALUES = 100_000
_WITH_PICTURES = re.compile(r"/v1/characters(/[^/]+/pictures)?|/v1/images/(edits|generations)|/v1/jobs")
_STORIES = re.compile(r"/v1/stories(/.*)?")


class BodyLimits:
    """The limits of the paths of one configuration."""

    def __init__(self, config: Config) -> None:
        self._upload_bytes = config.serving.max_upload_bytes
        self._import_bytes = config.serving.stories.max_import_bytes

    def max_bytes(self, path: str) -> int:
        """The largest body of ``path`` in bytes."""
        if path == "/v1/stories/import":
            return self._import_bytes
        if _WITH_PICTURES.fullmatch(path) or _STORIES.fullmatch(path):
            return self._upload_bytes
        return min(_TEXT_BYTES, self._upload_bytes)

    def max_values(self, path: str) -> int:
        """The largest number of values in the JSON of ``path``."""
        return _STORY_VALUES if _STORIES.fullmatch(path) else _TEXT_VALUES
