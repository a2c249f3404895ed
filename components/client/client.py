"""`Client`: characters, pictures and jobs of a service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from components.client.fields import Choice, Options, PictureLike, choices, files
from components.client.pages import pages
from components.client.results import Character, Job, JobEvent, Pictures
from components.client.stories import Stories
from components.client.transport import ServiceError, Transport


class Client:
    """The service at ``base_url``. Methods raise `ServiceError` where it refuses or cannot be reached.

    Args:
        api_key: where the service asks for one.
        transport: sends the requests; by default over HTTP, what is answered with 429 or 503 five times more.
    """

    def __init__(self, base_url: str, api_key: str | None = None, transport: Transport | None = None) -> None:
        self._transport = transport or Transport(base_url, api_key)
        self.characters = Characters(self._transport)
        self.jobs = Jobs(self._transport)
        self.stories = Stories(self._transport)

    def generate(
        self, prompt: str, characters: Sequence[Character | Choice | str] = (), **options: Unpack[Options]
    ) -> Pictures:
        """Draw a prompt, with ``characters`` where their words stand, or where it mentions them as ``@name``."""
        body = {"prompt": prompt, "characters": choices(characters), **options}
        return Pictures.of(self._transport.json("POST", "/v1/images/generations", json=body))

    def edit(
        self,
        image: PictureLike | Sequence[PictureLike],
        prompt: str,
        target_word: str | None = None,
        **options: Unpack[Options],
    ) -> Pictures:
        """Draw a prompt with the subject of pictures that are kept nowhere.

        Args:
            target_word: stands for the subject in the prompt; by default the service finds one.
        """
        said: dict[str, Any] = {"prompt": prompt, "target_word": target_word, **options}
        form = {name: value for name, value in said.items() if value is not None}
        return Pictures.of(self._transport.json("POST", "/v1/images/edits", data=form, files=files("image", image)))

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Characters:
    """Characters that the service keeps."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        pictures: PictureLike | Sequence[PictureLike],
        description: str = "",
        target_word: str | None = None,
    ) -> Character:
        """Create a character from one to four pictures; its word is the description's head noun if none is given."""
        form = {"name": name, "description": description}
        if target_word is not None:
            form["target_word"] = target_word
        created = self._transport.json("POST", "/v1/characters", data=form, files=files("pictures", pictures))
        return Character.of(created)

    def get(self, identifier: str) -> Character:
        return Character.of(self._transport.json("GET", f"/v1/characters/{identifier}"))

    def list(self) -> Iterator[Character]:
        """All of them, newest first."""
        return map(Character.of, pages(self._transport, "/v1/characters"))

    def rename(self, identifier: str, name: str) -> Character:
        return Character.of(self._transport.json("PATCH", f"/v1/characters/{identifier}", json={"name": name}))

    def delete(self, identifier: str) -> None:
        """Delete a character with its pictures and all that was made of them."""
        self._transport.json("DELETE", f"/v1/characters/{identifier}")


class Jobs:
    """Pictures that nobody waits for on the line."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(
        self,
        prompt: str,
        characters: Sequence[Character | Choice | str] = (),
        *,
        previews: int = 3,
        webhook: str | None = None,
        key: str | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Have pictures drawn; returns at once.

        Args:
            previews: looks at each picture in the making that `events` shows.
            webhook: URL that is told of the end.
            key: the same key stands for the same job, however often it is submitted; by default a new one.
        """
        body: dict[str, Any] = {"prompt": prompt, "characters": choices(characters), "partial_images": previews}
        body |= options
        if webhook is not None:
            body["webhook"] = {"url": webhook}
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return Job.of(self._transport.json("POST", "/v1/jobs", headers, json=body))

    def get(self, identifier: str) -> Job:
        return Job.of(self._transport.json("GET", f"/v1/jobs/{identifier}"))

    def list(self) -> Iterator[Job]:
        """All of them, newest first, without their pictures."""
        return map(Job.of, pages(self._transport, "/v1/jobs"))

    def cancel(self, identifier: str) -> None:
        """Cancel a job, or delete one that has ended."""
        self._transport.json("DELETE", f"/v1/jobs/{identifier}")

    def events(self, identifier: str) -> Iterator[JobEvent]:
        """News of a job, until it has ended or is deleted."""
        last = None
        while True:
            for event in self._transport.events(f"/v1/jobs/{identifier}/events", last):
                last = event.id or last
                news = JobEvent.of(event.kind, event.data)
                yield news
                if news.kind == "deleted" or (news.job is not None and news.job.ended):
                    return

    def wait(self, identifier: str, timeout_s: float | None = None, look_every_s: float = 1.0) -> Pictures:
        """The pictures of a job, once it is done.

        Raises:
            ServiceError: it failed or was cancelled.
            TimeoutError: it has not ended within ``timeout_s`` seconds.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (job := self.get(identifier)).ended:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"the job is still {job.status}")
            time.sleep(look_every_s)
        if job.pictures is None:
            error = job.error or {}
            raise ServiceError(
                error.get("message", f"the job is {job.status}"), 0, error.get("param"), error.get("code")
            )
        return job.pictures
