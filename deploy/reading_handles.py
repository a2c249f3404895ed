"""The characters part as the gateway sees it: what only reads rows is read here, from the database that they share."""

from __future__ import annotations

import asyncio

from ray.serve.handle import DeploymentHandle

from components.characters.character import Character
from components.characters.character_rows import CharacterRows
from deploy.handles import RemoteHandle


class CharacterReader(RemoteHandle):
    """`deploy.interfaces.protocols.Characters` over a handle; methods that only read rows read the database directly.

    Args:
        rows: those that the deployment behind the handle writes.
    """

    def __init__(self, handle: DeploymentHandle, rows: CharacterRows) -> None:
        super().__init__(handle)
        self._rows = rows

    async def get(self, identifier: str, owner: str = "") -> Character:
        return await asyncio.to_thread(self._rows.get, identifier, owner)

    async def find(self, name: str, owner: str = "") -> list[Character]:
        return await asyncio.to_thread(self._rows.find, name, owner)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]:
        return await asyncio.to_thread(self._rows.page, limit, after, owner)
