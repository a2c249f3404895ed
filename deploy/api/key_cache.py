"""In-memory cache of the valid API keys."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from components.access.key import ApiKey, is_key, key_id
from components.access.store import KeyStore
from deploy.background import in_database_thread
from deploy.interfaces.errors import UnavailableError

log = logging.getLogger(__name__)
#: Seconds that a request waits for the keys to be read.
_READ_TIMEOUT_S = 2.0


class KeyCache:
    """Finds a key by the text that a client sends.

    Args:
        refresh_s: age in seconds after which the keys are read again.
        stale_s: maximum age in seconds while the database does not answer.
        clock: seconds since 1970, compared with the keys' expiry.
    """

    def __init__(
        self, store: KeyStore, refresh_s: float, stale_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._refresh_s, self._stale_s, self._clock = store, refresh_s, stale_s, clock
        self._keys: dict[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        #: Whether the last query failed or is late: requests go on with the keys that are known.
        self._late = False

    async def find(self, text: str) -> ApiKey | None:
        """The key for ``text``; None if it is unknown, revoked or expired. Takes the same time in all cases.

        Raises:
            UnavailableError: the keys are too old, because the database does not answer.
        """
        await self._refresh()
        key = self._keys.get(key_id(text) or "")
        matches = is_key(text, None if key is None else key.digest)
        return key if matches and key is not None and key.is_valid(self._clock()) else None

    async def _refresh(self) -> None:
        """Read the keys again if they are too old; concurrent requests share one query."""
        if time.monotonic() - self._read_at <= self._refresh_s:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        if not (self._late and self._usable()):
            await asyncio.wait({self._reading}, timeout=_READ_TIMEOUT_S)
            self._late = self._late or not self._reading.done()
        if not self._usable():
            raise UnavailableError("keys cannot be checked at the moment; try again")

    def _usable(self) -> bool:
        return time.monotonic() - self._read_at <= max(self._stale_s, self._refresh_s)

    async def _read(self) -> None:
        started = time.monotonic()
        try:
            found = await in_database_thread(self._store.valid)
        except SQLAlchemyError as error:
            log.error("keys: %s", type(error).__name__)
            self._late = True
            return
        self._keys, self._read_at, self._late = {key.id: key for key in found}, started, False
