"""In-memory cache of vision tokens: consecutive images of a story do not fetch the same tokens again."""

from __future__ import annotations

import asyncio

from cachetools import TTLCache

from components.characters.character import SubjectTokens
from deploy.interfaces.requests import RequestedSubject

#: Maximum number of entries; the tokens of one subject of SDXL take a few megabytes.
_SUBJECTS = 32


class TokenCache:
    """Tokens of one encoder by character and revision.

    An entry expires after ``seconds`` and is then freed. A request contains a revision only if it was read just now,
    so a deleted or changed character is never served from here.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: TTLCache[tuple[str, int], SubjectTokens] = TTLCache(_SUBJECTS, seconds)

    def get(self, subject: RequestedSubject) -> SubjectTokens | None:
        """The tokens; None if they are not cached or the revision is unknown."""
        return None if subject.revision is None else self._entries.get((subject.character, subject.revision))

    def put(self, subject: RequestedSubject, tokens: SubjectTokens) -> None:
        if subject.revision is not None and self._seconds:
            self._entries[subject.character, subject.revision] = tokens
            asyncio.get_running_loop().call_later(self._seconds, self._entries.expire)
