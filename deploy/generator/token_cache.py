"""Vision tokens that a generator has fetched a moment ago, so that a story's next picture need not fetch them again."""

from __future__ import annotations

import asyncio

from cachetools import TTLCache

from components.characters.character import SubjectTokens
from deploy.interfaces.protocols import CharacterUse

#: Most subjects whose tokens are in memory; those of SDXL take some megabytes each.
_SUBJECTS = 32


class TokenCache:
    """Tokens of one encoder by character and revision, for ``seconds`` each, after which nothing of them is left.

    Who asks for a revision has just read it: a character that was deleted or changed since is not asked for.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: TTLCache[tuple[str, int], SubjectTokens] = TTLCache(_SUBJECTS, seconds)

    def get(self, subject: CharacterUse) -> SubjectTokens | None:
        """None also where it is not known which revision is the current one."""
        return None if subject.revision is None else self._kept.get((subject.character, subject.revision))

    def put(self, subject: CharacterUse, tokens: SubjectTokens) -> None:
        if subject.revision is not None and self._seconds:
            self._kept[subject.character, subject.revision] = tokens
            asyncio.get_running_loop().call_later(self._seconds, self._kept.expire)
