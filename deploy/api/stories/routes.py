"""The routes of stories, their panels and takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from components.access.limits import RequestId
from components.config import Config
from components.errors import NotFoundError
from components.fingerprint import fingerprint
from components.logs import amend
from components.pictures import ThumbnailSize
from components.stories.story import RevisionError, Story, Take, TakeNotFoundError
from deploy.api.cached_pictures import send_cached
from deploy.api.error_responses import ApiError
from deploy.api.large_responses import json_response
from deploy.api.operations.routes import served_model
from deploy.api.quotas import CurrentCaller
from deploy.api.schema import ModelResponse
from deploy.api.sse import EventStreamResponse
from deploy.api.stories.events import story_events
from deploy.api.stories.panel_jobs import PanelJobSubmitter
from deploy.api.stories.schema import (
    DeletedStoryResponse,
    DrawRequest,
    DrawResponse,
    ImportedStory,
    OrderRequest,
    PanelChange,
    PanelList,
    PanelResponse,
    PanelsRequest,
    RedrawRequest,
    StoryChange,
    StoryPage,
    StoryRequest,
    StoryResponse,
    StorySummary,
    etag,
)
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.protocols import Characters, Jobs
from deploy.interfaces.stories import Stories
from deploy.status.replica_status import ReplicaStatus, read_reports

#: Share of the request time limit after which an event stream ends; clients reconnect.
_STREAM_SHARE = 0.9
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-Sent Events", "content": {"text/event-stream": {}}},
}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
_WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}}}
ExportFormat = Literal["pdf", "cbz", "zip", "png", "story"]
#: Types and names of exported files.
_FILES = {
    "pdf": ("application/pdf", "book.pdf"),
    "cbz": ("application/vnd.comicbook+zip", "book.cbz"),
    "zip": ("application/zip", "pictures.zip"),
    "png": ("image/png", "story.png"),
    "story": ("application/zip", "story.zip"),
}
_EXPORTS: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind, _ in _FILES.values()}}}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
_IMPORT = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
_Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, pattern=r"^[\x21-\x7e]+$")]
_IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=100)]
_LastEvent = Annotated[int, Header(alias="Last-Event-ID", ge=0, lt=2**31)]
_Story = Annotated[str | None, Query(pattern=r"^story-[0-9a-f]{28}$")]


def story_routes(
    config: Config,
    model: ModelResponse,
    characters: Characters,
    stories: Stories,
    jobs: Jobs,
    status: ReplicaStatus,
    time_limits: TimeLimits,
) -> APIRouter:
    """The routes under ``/v1/stories``."""
    router = APIRouter(prefix="/v1/stories")

    @router.post("", status_code=201, response_model=StoryResponse)
    async def create_story(wanted: StoryRequest, caller: CurrentCaller, idempotency_key: _Key = None) -> Response:
        panels = wanted.panels()
        request = _request("story", wanted, idempotency_key)
        story, new = await stories.create(wanted.values(), panels, caller.owner, request)
        amend(resource=story.id)
        return await _created(story, partial(StoryResponse.of, story), new)

    @router.get("")
    async def list_stories(
        caller: CurrentCaller, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: _Story = None
    ) -> StoryPage:
        found = await stories.page(limit + 1, after, caller.owner)
        return StoryPage(data=[StorySummary.of(story) for story in found[:limit]], has_more=len(found) > limit)

    @router.get("/{story}", response_model=StoryResponse)
    async def get_story(story: str, caller: CurrentCaller) -> Response:
        return await _whole(await stories.get(story, caller.owner))

    @router.patch("/{story}", response_model=StoryResponse)
    async def change_story(
        story: str, change: StoryChange, caller: CurrentCaller, if_match: _IfMatch = None
    ) -> Response:
        try:
            changed = await stories.change(story, change.values(), caller.owner, _expected(if_match))
        except RevisionError as error:
            raise _mismatch(error) from None
        return await _whole(changed)

    @router.delete("/{story}")
    async def delete_story(story: str, caller: CurrentCaller, if_match: _IfMatch = None) -> DeletedStoryResponse:
        try:
            active = await stories.delete(story, caller.owner, _expected(if_match))
        except RevisionError as error:
            raise _mismatch(error) from None
        await _cancel(jobs, active, caller.owner)
        return DeletedStoryResponse(id=story, object="story.deleted")

    @router.put("/{story}/order", response_model=StoryResponse)
    async def order_panels(
        story: str, wanted: OrderRequest, caller: CurrentCaller, if_match: _IfMatch = None
    ) -> Response:
        try:
            ordered = await stories.order(story, wanted.panels, caller.owner, _expected(if_match))
        except RevisionError as error:
            raise _mismatch(error) from None
        return await _whole(ordered)

    @router.get("/{story}/events", response_class=StreamingResponse, responses=_EVENTS)
    async def events(story: str, caller: CurrentCaller, last_event_id: _LastEvent = 0) -> Response:
        """Events ``panel`` and ``story`` with the new state after a change, ``preview``, and ``deleted`` at the end."""
        await stories.get(story, caller.owner)
        limit_s = _STREAM_SHARE * config.serving.request_timeout_s
        body = story_events(stories, story, last_event_id, limit_s, caller.owner)
        return EventStreamResponse(body)

    _add_file_routes(router, model, stories, status)
    _add_panel_routes(router, stories, jobs)
    submitter = PanelJobSubmitter(config, model.id, characters, stories, jobs, time_limits)
    _add_draw_routes(router, submitter, stories, jobs)
    _add_take_routes(router, stories, submitter)
    return router


def _add_panel_routes(router: APIRouter, stories: Stories, jobs: Jobs) -> None:
    @router.post("/{story}/panels", status_code=201)
    async def add_panels(
        story: str, wanted: PanelsRequest, response: Response, caller: CurrentCaller, idempotency_key: _Key = None
    ) -> PanelList:
        values = [panel.values() for panel in wanted.panels]
        request = _request(f"panels/{story}", wanted, idempotency_key)
        added, new = await stories.add_panels(story, values, wanted.after, caller.owner, request)
        _mark_replayed(response, new)
        return PanelList(data=[PanelResponse.of(panel, story) for panel in added])

    @router.get("/{story}/panels/{panel}")
    async def get_panel(story: str, panel: str, response: Response, caller: CurrentCaller) -> PanelResponse:
        found = await stories.get_panel(story, panel, caller.owner)
        _set_headers(response, found.revision)
        return PanelResponse.of(found, story)

    @router.patch("/{story}/panels/{panel}")
    async def change_panel(
        story: str,
        panel: str,
        change: PanelChange,
        response: Response,
        caller: CurrentCaller,
        if_match: _IfMatch = None,
    ) -> PanelResponse:
        values, expected = change.values(), _expected(if_match)
        try:
            changed = await stories.change_panel(story, panel, values, caller.owner, expected, change.chosen)
        except RevisionError as error:
            raise _mismatch(error) from None
        _set_headers(response, changed.revision)
        return PanelResponse.of(changed, story)

    @router.delete("/{story}/panels/{panel}")
    async def delete_panel(
        story: str, panel: str, caller: CurrentCaller, if_match: _IfMatch = None
    ) -> DeletedStoryResponse:
        try:
            active = await stories.delete_panel(story, panel, caller.owner, _expected(if_match))
        except RevisionError as error:
            raise _mismatch(error) from None
        await _cancel(jobs, active, caller.owner)
        return DeletedStoryResponse(id=panel, object="panel.deleted")

    @router.post("/{story}/panels/{panel}/duplicate", status_code=201)
    async def duplicate_panel(
        story: str, panel: str, response: Response, caller: CurrentCaller, idempotency_key: _Key = None
    ) -> PanelResponse:
        request = _request(f"duplicate/{story}/{panel}", None, idempotency_key)
        copy, new = await stories.duplicate(story, panel, caller.owner, request)
        _set_headers(response, copy.revision, new)
        return PanelResponse.of(copy, story)


def _add_file_routes(router: APIRouter, model: ModelResponse, stories: Stories, status: ReplicaStatus) -> None:
    @router.get("/{story}/export", response_class=Response, responses=_EXPORTS)
    async def export_story(
        story: str,
        caller: CurrentCaller,
        format: ExportFormat,
        panels_per_page: Annotated[int | None, Query(ge=1, le=6)] = None,
        title_page: bool | None = None,
        paper: Literal["a4", "letter", "square"] | None = None,
    ) -> Response:
        """A story as a file; the page layout is by default the story's own."""
        given = {"panels_per_page": panels_per_page, "title_page": title_page, "paper": paper}
        own = (await stories.get(story, caller.owner)).pages
        pages = replace(own, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        data = await stories.export(story, format, pages, caller.owner)
        kind, name = _FILES[format]
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Response(data, media_type=kind, headers=headers | {"X-Content-Type-Options": "nosniff"})

    @router.post("/import", status_code=201, response_model=ImportedStory, openapi_extra=_IMPORT)
    async def import_story(upload: Request, caller: CurrentCaller, idempotency_key: _Key = None) -> Response:
        """Import a file of ``export?format=story``, from this or another installation."""
        data = await _uploaded(upload)
        digest = hashlib.sha256(data).hexdigest()
        request = None if idempotency_key is None else RequestId(idempotency_key, digest)
        served = model.id, served_model(model, await read_reports(status)).version
        story, notes, new = await stories.import_story(data, caller.owner, served, request)
        amend(resource=story.id)
        return await _created(story, lambda: ImportedStory(**StoryResponse.of(story).model_dump(), notes=notes), new)


def _add_draw_routes(router: APIRouter, submitter: PanelJobSubmitter, stories: Stories, jobs: Jobs) -> None:
    @router.post("/{story}/draw", status_code=202)
    async def draw_panels(
        story: str, wanted: DrawRequest, response: Response, caller: CurrentCaller, idempotency_key: _Key = None
    ) -> DrawResponse:
        request = _request(f"draw/{story}", wanted, idempotency_key)
        known = None if request is None else await stories.find_response(request, caller.owner)
        if known is not None:
            _mark_replayed(response, False)
            return DrawResponse.model_validate(known)
        answer = await submitter.submit(story, wanted, caller, request)
        if request is not None:
            await stories.store_response(request, answer.model_dump(mode="json"), caller.owner)
        return answer

    @router.delete("/{story}/panels/{panel}/job")
    async def cancel_drawing(story: str, panel: str, caller: CurrentCaller) -> PanelResponse:
        """Cancel the unfinished jobs of a panel, of all variations."""
        await _cancel(jobs, await stories.jobs_of(story, panel, caller.owner), caller.owner)
        return PanelResponse.of(await stories.get_panel(story, panel, caller.owner), story)


def _add_take_routes(router: APIRouter, stories: Stories, submitter: PanelJobSubmitter) -> None:
    @router.post("/{story}/takes/{take}/redraw", status_code=202)
    async def redraw_take(
        story: str,
        take: str,
        wanted: RedrawRequest,
        response: Response,
        caller: CurrentCaller,
        idempotency_key: _Key = None,
    ) -> DrawResponse:
        """Redraw a take, or the part of it that the mask leaves transparent, with its own settings, as a new take."""
        digest = None if wanted.mask is None else hashlib.sha256(wanted.mask).hexdigest()
        request = None
        if idempotency_key is not None:
            content = wanted.model_dump(mode="json", exclude={"mask"})
            request = RequestId(idempotency_key, fingerprint([f"redraw/{story}/{take}", content, digest]))
        known = None if request is None else await stories.find_response(request, caller.owner)
        if known is not None:
            _mark_replayed(response, False)
            return DrawResponse.model_validate(known)
        found = await _find_take(stories, story, take, caller.owner)
        answer = await submitter.redraw(story, found, wanted, caller, request)
        if request is not None:
            await stories.store_response(request, answer.model_dump(mode="json"), caller.owner)
        return answer

    @router.get("/{story}/takes/{take}.png", response_class=Response, responses=_PNG)
    async def get_take(story: str, take: str, request: Request, caller: CurrentCaller) -> Response:
        check = partial(stories.check_take, story, take, caller.owner)
        read = partial(stories.picture, story, take, caller.owner)
        return await send_cached(request, take, "image/png", read, check)

    @router.get("/{story}/takes/{take}/thumbnail.webp", response_class=Response, responses=_WEBP)
    async def get_thumbnail(
        story: str, take: str, request: Request, caller: CurrentCaller, size: ThumbnailSize = ThumbnailSize.MEDIUM
    ) -> Response:
        check = partial(stories.check_take, story, take, caller.owner)
        read = partial(stories.thumbnail, story, take, int(size), caller.owner)
        return await send_cached(request, f"{take}-{int(size)}", "image/webp", read, check)

    @router.get("/{story}/takes/{take}/masks/{index}.png", response_class=Response, responses=_PNG)
    async def get_mask(story: str, take: str, index: int, request: Request, caller: CurrentCaller) -> Response:
        check = partial(stories.check_take, story, take, caller.owner)
        read = partial(stories.mask, story, take, index, caller.owner)
        return await send_cached(request, f"{take}-mask-{index}", "image/png", read, check)

    @router.delete("/{story}/takes/{take}")
    async def delete_take(story: str, take: str, caller: CurrentCaller) -> DeletedStoryResponse:
        await stories.delete_take(story, take, caller.owner)
        return DeletedStoryResponse(id=take, object="take.deleted")


async def _find_take(stories: Stories, story: str, take: str, owner: str) -> Take:
    """Raises TakeNotFoundError if the story has no such take."""
    for panel in (await stories.get(story, owner)).panels:
        for each in panel.takes:
            if each.id == take:
                return each
    raise TakeNotFoundError("the story has no such take")


async def _uploaded(request: Request) -> bytes:
    """The content of the form field ``file``.

    Raises:
        ApiError: the body is not a form, or has no such file.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with the story as file", code="content_type")
    async with request.form(max_files=1, max_fields=1) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "file: send the story as a file", "file", "missing")
        return await file.read()


def _request(kind: str, body: BaseModel | None, key: str | None) -> RequestId | None:
    if key is None:
        return None
    content = None if body is None else body.model_dump(mode="json", exclude_unset=True)
    return RequestId(key, fingerprint([kind, content]))


def _expected(if_match: str | None) -> int | None:
    """The revision of an ``If-Match`` header; -1, which matches none, for an unknown tag."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = re.fullmatch(r'(?:W/)?"r(\d{1,9})"', if_match.strip())
    return -1 if found is None else int(found[1])


def _mismatch(error: RevisionError) -> ApiError:
    return ApiError(412, str(error), "If-Match", "revision_mismatch", {"ETag": etag(error.revision)})


async def _whole(story: Story) -> Response:
    """A story with all panels and takes, which takes a while to encode."""
    response = await json_response(partial(StoryResponse.of, story))
    _set_headers(response, story.revision)
    return response


async def _created(story: Story, make: Callable[[], StoryResponse], new: bool) -> Response:
    response = await json_response(make, status=201)
    response.headers["Location"] = f"/v1/stories/{story.id}"
    _set_headers(response, story.revision, new)
    return response


def _set_headers(response: Response, revision: int, new: bool = True) -> None:
    response.headers["ETag"] = etag(revision)
    response.headers["Cache-Control"] = "no-store"
    _mark_replayed(response, new)


def _mark_replayed(response: Response, new: bool) -> None:
    if not new:
        response.headers["Idempotent-Replayed"] = "true"


async def _cancel(jobs: Jobs, identifiers: list[str], owner: str) -> None:
    for identifier in identifiers:
        try:
            await jobs.cancel(identifier, owner)
        except NotFoundError:  # it has ended, and was deleted
            continue
