"""Client of the admin API: jobs, keys, usage and data of all owners. Needs a key with the scope ``admin``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.client.pages import pages
from components.client.responses import DayUsage
from components.client.transport import Transport
from components.files import replacing_file


class Admin:
    """What operators see and do; rows are those of `/v1/admin` in the HTTP reference."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def jobs(self, owner: str | None = None, status: str | None = None) -> Iterator[dict[str, Any]]:
        """Jobs of all owners or of one, newest first."""
        return pages(self._transport, "/v1/admin/jobs", **_named(owner=owner, status=status))

    def job(self, identifier: str) -> dict[str, Any]:
        return self._transport.json("GET", f"/v1/admin/jobs/{identifier}")

    def cancel(self, identifier: str) -> dict[str, Any]:
        """Cancel any owner's job, or delete one that has ended."""
        return self._transport.json("DELETE", f"/v1/admin/jobs/{identifier}")

    def keys(self, owner: str | None = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._transport.json("GET", "/v1/admin/keys", params=_named(owner=owner))["data"]
        return rows

    def change_key(self, identifier: str, **values: Any) -> dict[str, Any]:
        """Change ``scopes``, ``requests_per_minute`` or ``pixel_steps_per_day``; None removes a limit."""
        return self._transport.json("PATCH", f"/v1/admin/keys/{identifier}", json=values)

    def revoke_key(self, identifier: str) -> dict[str, Any]:
        return self._transport.json("DELETE", f"/v1/admin/keys/{identifier}")

    def usage(self, owner: str | None = None, days: int = 30) -> list[DayUsage]:
        """Usage per owner and day, newest first."""
        found = self._transport.json("GET", "/v1/admin/usage", params=_named(owner=owner) | {"days": str(days)})
        return [DayUsage.of(row) for row in found["data"]]

    def audit(self, owner: str | None = None, key: str | None = None) -> Iterator[dict[str, Any]]:
        """Entries of the audit log, newest first."""
        return pages(self._transport, "/v1/admin/audit", **_named(owner=owner, key=key))

    def export(self, owner: str, path: str | Path) -> Path:
        """Write everything of an owner to a zip file."""
        target = Path(path)
        with replacing_file(target) as partial, partial.open("wb") as file:
            for piece in self._transport.pieces("/v1/admin/export", {"owner": owner}):
                file.write(piece)
        return target

    def erase(self, owner: str) -> dict[str, Any]:
        """Erase everything of an owner, keys included, and return the receipt."""
        return self._transport.json("POST", "/v1/admin/erase", json={"owner": owner, "confirm": owner})


def _named(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
