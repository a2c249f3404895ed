"""`Client`: characters, pictures and jobs of a service."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from components.client.admin import Admin
from components.client.fields import (
    Box,
    Choice,
    Options,
    PictureLike,
    box_field,
    choices,
    files,
    form_fields,
    form_options,
    json_options,
    mask_files,
)
from components.client.pages import pages
from components.client.responses import Character, Job, JobEvent, Pictures, Usage
from components.client.stories import Stories
from components.client.transport import ServiceError, Transport


class Client:
    """The service at ``base_url``. Methods raise `ServiceError` if it refuses a request or cannot be reached.

    Args:
        api_key: where the service requires one.
        transport: sends the requests; by default over HTTP, with five retries after status 429 or 503.
    """

    def __init__(self, base_url: str, api_key: str | None = None, transport: Transport | None = None) -> None:
        self._transport = transport or Transport(base_url, api_key)
        self.characters = Characters(self._transport)
        self.jobs = Jobs(self._transport)
        self.stories = Stories(self._transport)
        self.admin = Admin(self._transport)

    def generate(
        self, prompt: str, characters: Sequence[Character | Choice | str] = (), **options: Unpack[Options]
    ) -> Pictures:
        """Generate images of a prompt, with ``characters`` at their words, or where it mentions them as ``@name``."""
        body = {"prompt": prompt, "characters": choices(characters), **json_options(options)}
        return Pictures.of(self._transport.json("POST", "/v1/images/generations", json=body))

    def edit(
        self,
        image: PictureLike | Sequence[PictureLike],
        prompt: str,
        target_word: str | None = None,
        boxes: Sequence[Box | None] = (),
        masks: Sequence[PictureLike | None] = (),
        **options: Unpack[Options],
    ) -> Pictures:
        """Generate images of a prompt with the subject of reference images, which the service does not store.

        Args:
            target_word: the word of the prompt that names the subject; by default the service detects one.
            boxes, masks: as in `Characters.create`.
        """
        given, control = form_options(options)
        fields: dict[str, Any] = {"prompt": prompt, "target_word": target_word, **box_field(boxes), **given}
        form = form_fields(fields)
        sent = files("image", image) + mask_files(masks) + control
        return Pictures.of(self._transport.json("POST", "/v1/images/edits", data=form, files=sent))

    def redraw(
        self,
        image: PictureLike,
        prompt: str,
        mask: PictureLike | None = None,
        strength: float = 0.8,
        characters: Sequence[Character | Choice | str] = (),
        references: Sequence[PictureLike] = (),
        target_word: str | None = None,
        **options: Unpack[Options],
    ) -> Pictures:
        """Redraw an image, or the part of it where ``mask``, an image of its size, is transparent.

        Args:
            strength: share of the steps that are made: the smaller it is, the more of the image stays.
            characters: as in `generate`.
            references: images of a subject that the service does not store, and ``target_word`` for it, as in `edit`.
        """
        given, control = form_options(options)
        fields: dict[str, Any] = {"prompt": prompt, "redraw_strength": strength, "target_word": target_word, **given}
        if characters:
            fields["characters"] = json.dumps(choices(characters))
        form = form_fields(fields)
        sent = files("image", [image, *references]) + ([] if mask is None else files("mask", mask)) + control
        return Pictures.of(self._transport.json("POST", "/v1/images/edits", data=form, files=sent))

    def usage(self, days: int = 30) -> Usage:
        """What the key's owner has used on each of the last ``days`` days (UTC), at most 366, and what is stored."""
        return Usage.of(self._transport.json("GET", "/v1/usage", params={"days": str(days)}))

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Characters:
    """The characters of the service."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        pictures: PictureLike | Sequence[PictureLike],
        description: str = "",
        target_word: str | None = None,
        boxes: Sequence[Box | None] = (),
        masks: Sequence[PictureLike | None] = (),
    ) -> Character:
        """Create a character from one to four pictures; its word defaults to the head noun of the description.

        Args:
            boxes: where each picture's subject is: left, top, right, bottom in its pixels, upright; None to detect it.
            masks: likewise pictures of the same size, white where the subject is. A mask wins over a box.
        """
        form = {"name": name, "description": description, **box_field(boxes)}
        if target_word is not None:
            form["target_word"] = target_word
        sent = files("pictures", pictures) + mask_files(masks)
        return Character.of(self._transport.json("POST", "/v1/characters", data=form, files=sent))

    def add_pictures(
        self,
        identifier: str,
        pictures: PictureLike | Sequence[PictureLike],
        boxes: Sequence[Box | None] = (),
        masks: Sequence[PictureLike | None] = (),
    ) -> Character:
        """Add pictures to a character, which has at most four; ``boxes`` and ``masks`` as in `create`."""
        sent = files("pictures", pictures) + mask_files(masks)
        path = f"/v1/characters/{identifier}/pictures"
        return Character.of(self._transport.json("POST", path, data=box_field(boxes), files=sent))

    def get(self, identifier: str) -> Character:
        return Character.of(self._transport.json("GET", f"/v1/characters/{identifier}"))

    def list(self) -> Iterator[Character]:
        """All of them, newest first."""
        return map(Character.of, pages(self._transport, "/v1/characters"))

    def rename(self, identifier: str, name: str) -> Character:
        return self.change(identifier, name=name)

    def change(
        self,
        identifier: str,
        name: str | None = None,
        description: str | None = None,
        target_word: str | None = None,
    ) -> Character:
        """Change what is given; a new description changes the word only if that was taken from the description."""
        given = {"name": name, "description": description, "target_word": target_word}
        changed = {field: value for field, value in given.items() if value is not None}
        return Character.of(self._transport.json("PATCH", f"/v1/characters/{identifier}", json=changed))

    def remove_picture(self, identifier: str, picture: str) -> Character:
        """Remove one of several pictures, by its id in `Character.pictures`."""
        path = f"/v1/characters/{identifier}/pictures/{picture}"
        return Character.of(self._transport.json("DELETE", path))

    def cut_out_again(
        self, identifier: str, picture: str, box: Box | None = None, mask: PictureLike | None = None
    ) -> Character:
        """Cut a picture out where ``box`` or ``mask`` (as in `create`) says that the subject is; it gets another id.

        Without both the subject is detected again.
        """
        path = f"/v1/characters/{identifier}/pictures/{picture}"
        if mask is None:
            return Character.of(self._transport.json("PATCH", path, json={"box": box}))
        form = {} if box is None else {"box": json.dumps(box)}
        return Character.of(self._transport.json("PATCH", path, data=form, files=files("mask", mask)))

    def delete(self, identifier: str) -> None:
        """Delete a character with its pictures and everything derived from them."""
        self._transport.json("DELETE", f"/v1/characters/{identifier}")


class Jobs:
    """Jobs: images that are generated asynchronously."""

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
        """Submit a job; returns at once.

        Args:
            previews: number of previews of each image that `events` yields.
            webhook: URL that receives the result.
            key: idempotency key: submitting it again returns the same job; by default a new one.
        """
        body: dict[str, Any] = {"prompt": prompt, "characters": choices(characters), "partial_images": previews}
        body |= json_options(options)
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
        """Events of a job, until it has ended or is deleted.

        A stream that breaks off is resumed after the last event, and no preview is yielded twice.

        Raises:
            ServiceError: the service refuses the request, or cannot be reached repeatedly.
        """
        previews = set[tuple[int | None, int | None]]()
        for event in self._transport.events(f"/v1/jobs/{identifier}/events"):
            if event.kind == "error":  # the time limit of the request, not of the job: the stream is resumed
                continue
            received = JobEvent.of(event.kind, event.data)
            if received.kind == "preview":
                if (received.picture, received.step) in previews:
                    continue
                previews.add((received.picture, received.step))
            yield received
            if received.kind == "deleted" or (received.job is not None and received.job.ended):
                return

    def wait(self, identifier: str, timeout_s: float | None = None, look_every_s: float = 1.0) -> Pictures:
        """Wait for a job and return its images.

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
