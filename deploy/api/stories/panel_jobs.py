"""Submits the generation of panels as jobs, one per panel and variation."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import ValidationError

from components.access.limits import RequestId
from components.characters.cast import Cast, CastMember
from components.characters.mention_syntax import replace_mentions
from components.config import Config
from components.content import ContentError
from components.errors import RealCustomError
from components.fingerprint import fingerprint
from components.jobs.job import NewJob, QueueBusyError, QueueFullError
from components.model.words import find_word
from components.stories.panel_plan import PanelPlan
from components.stories.story import Take
from components.stories.takes import COLLECTOR, PendingTake
from deploy.api.error_responses import ApiError
from deploy.api.images.control_request import ControlChoice, with_control
from deploy.api.images.redraw_request import checked_strength, redraw_size
from deploy.api.images.request_conversion import build_request
from deploy.api.images.schema import SEEDS, ImageRequest
from deploy.api.jobs.routes import submit_job
from deploy.api.mentions import find_mentioned, find_mentions
from deploy.api.quotas import Caller
from deploy.api.stories.history_recorder import model_settings
from deploy.api.stories.schema import DrawnPanel, DrawRequest, DrawResponse, RedrawRequest, SkippedPanel
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.errors import BusyError, describe_error
from deploy.interfaces.protocols import Characters, Jobs
from deploy.interfaces.requests import (
    GenerationRequest,
    JobPayload,
    RequestedRedraw,
    RequestedSubject,
    StoredTake,
)
from deploy.interfaces.stories import Stories

#: Previews of each image.
_PREVIEWS = 3
_STRENGTHS = ("strength", "face_strength", "body_strength")
#: Errors that refuse a job at its submission.
_REFUSALS = (ApiError, QueueFullError, QueueBusyError, BusyError)


@dataclass(frozen=True)
class _Submission:
    """A job to submit, the request in it, and the take that it will become."""

    pending: PendingTake
    request: GenerationRequest
    job: NewJob


class PanelJobSubmitter:
    """Submits the jobs of panels.

    Args:
        model: name of the served model.
    """

    def __init__(
        self,
        config: Config,
        model: str,
        characters: Characters,
        stories: Stories,
        jobs: Jobs,
        time_limits: TimeLimits,
    ) -> None:
        self._config, self._model = config, model
        self._characters, self._stories, self._jobs = characters, stories, jobs
        self._time_limits = time_limits

    async def submit(self, story: str, wanted: DrawRequest, caller: Caller, key: RequestId | None) -> DrawResponse:
        """Submit jobs for the panels; a panel that cannot be generated is skipped, and the reason stored as its error.

        Raises:
            ApiError, QueueFullError, QueueBusyError: the first job is refused. If a later one is refused, it and the
                rest are skipped.
            ApiError, UnsupportedRequestError, ContentError: the control cannot be used.
        """
        if wanted.control is not None and len(wanted.panels or ()) != 1:
            message = "control: a picture guides one panel: give its id alone in panels"
            raise ApiError(400, message, "control", "invalid_order")
        submissions: list[_Submission] = []
        errors: dict[str, dict[str, Any]] = {}
        skipped: list[SkippedPanel] = []
        batch, now = _batch(key), time.time()
        for plan in await self._stories.plan(story, wanted.panels, wanted.n, caller.owner):
            if plan.busy:
                skipped.append(SkippedPanel(panel=plan.panel, reason="it is being drawn already"))
                continue
            try:
                submissions += await self._submissions(story, plan, batch, now, caller, wanted.control)
            except (ApiError, RealCustomError, ValidationError) as error:
                errors[plan.panel] = _error_values(error)
                if isinstance(error, ContentError) or str(errors[plan.panel]["param"]).startswith("control"):
                    raise  # the control of this request is at fault, not the panel
            if plan.error is not None:
                errors[plan.panel] = plan.error
        skipped += [SkippedPanel(panel=panel, reason=error["message"]) for panel, error in errors.items()]
        if errors:
            await self._stories.record_errors(story, errors, caller.owner)
        if submissions:
            await self._stories.register_jobs(story, [each.pending for each in submissions], caller.owner)
        data, refused = await self._submit(story, submissions, caller)
        return DrawResponse(data=data, skipped=[*skipped, *refused])

    async def _submit(
        self, story: str, submissions: list[_Submission], caller: Caller
    ) -> tuple[list[DrawnPanel], list[SkippedPanel]]:
        data: list[DrawnPanel] = []
        for index, submission in enumerate(submissions):
            try:
                job, _ = await submit_job(self._jobs, submission.job, submission.request, caller)
            except _REFUSALS as error:
                rest = submissions[index:]
                await self._stories.unregister_jobs([each.pending.key for each in rest], caller.owner)
                if not data:
                    raise
                problem = _error_values(error)
                panels = list(dict.fromkeys(each.pending.panel for each in rest))
                await self._stories.record_errors(story, dict.fromkeys(panels, problem), caller.owner)
                return data, [SkippedPanel(panel=panel, reason=problem["message"]) for panel in panels]
            data.append(DrawnPanel(panel=submission.pending.panel, job=job.id))
        return data, []

    async def redraw(
        self, story: str, take: Take, wanted: RedrawRequest, caller: Caller, key: RequestId | None
    ) -> DrawResponse:
        """Submit jobs that redraw ``take``, or the part of it that the mask leaves transparent, with its own settings.

        Raises:
            StatedRegionError: the mask does not fit the take.
            BeyondTimeLimitError: it would take longer than a job may.
            ApiError, QueueFullError, QueueBusyError, StoryLimitError: the first job is refused.
        """
        await self._stories.check_quota(caller.owner)
        settings = take.settings
        prompt = settings["revised_prompt"] if wanted.prompt is None else _redraw_prompt(wanted.prompt, settings)
        subjects = [
            RequestedSubject(each["id"], each["target_word"], *(each[name] for name in _STRENGTHS))
            for each in settings["characters"]
            if find_word(prompt, each["target_word"])
        ]
        redraw = RequestedRedraw(wanted.strength, take=StoredTake(story, take.id))
        requests: list[GenerationRequest] = []
        for variation in range(wanted.n):
            body = ImageRequest(
                prompt=prompt,
                negative_prompt=settings["negative_prompt"],
                size=redraw_size(take.width, take.height, self._config),
                steps=settings["steps"],
                guidance_scale=settings["guidance_scale"],
                scheduler=settings["scheduler"],
                loras=settings.get("loras", []),
                seed=None if wanted.seed is None else (wanted.seed + variation) % SEEDS,
            )
            request = build_request(body, self._config, prompt, subjects, caller.owner, redraw)
            request = replace(checked_strength(request, "strength"), timeout_s=self._config.serving.jobs.timeout_s)
            await self._time_limits.check(request)
            requests.append(request)
        mask = None
        if wanted.mask is not None:
            await caller.check(requests[0])
            size = take.width, take.height
            mask = await self._characters.read_redraw_mask(wanted.mask, size, "mask", caller.owner)
        own: dict[str, Any] = {"redraw": {"take": take.id, "strength": wanted.strength}}
        if wanted.prompt is not None:
            own |= {"prompt": prompt, "revised_prompt": prompt}
        batch, now = _batch(key), time.time()
        submissions = []
        for variation, each in enumerate(requests):
            request = replace(each, redraw=replace(redraw, mask=mask))
            name = f"story/{story}/{batch}/{take.id}/{variation}"
            pending = PendingTake(name, take.panel, now, variation, settings | own, take.digest)
            submissions.append(_Submission(pending, request, self._job(pending, request, bool(subjects), caller.owner)))
        await self._stories.register_jobs(story, [each.pending for each in submissions], caller.owner)
        data, refused = await self._submit(story, submissions, caller)
        return DrawResponse(data=data, skipped=refused)

    def _job(self, pending: PendingTake, request: GenerationRequest, masks: bool, owner: str) -> NewJob:
        return NewJob(
            payload=JobPayload(request, masks, _PREVIEWS, self._model).to_json(),
            digest=fingerprint([pending.key, pending.digest]),
            steps=request.unet_calls,
            pictures=1,
            owner=owner,
            key=pending.key,
            collector=COLLECTOR,
        )

    async def _submissions(
        self, story: str, plan: PanelPlan, batch: str, now: float, caller: Caller, control: ControlChoice | None
    ) -> list[_Submission]:
        """The jobs of one panel; empty if its plan has an error."""
        if plan.error is not None:
            return []
        subjects = [
            RequestedSubject(each.id, each.word, each.strength, each.face_strength, each.body_strength)
            for each in plan.characters
        ]
        requests = []
        for seed in plan.seeds:
            body = ImageRequest(prompt=plan.prompt, size=plan.size, seed=seed, control=control, **asdict(plan.sampling))
            requests.append(build_request(body, self._config, plan.prompt, subjects, caller.owner))
        requests = [replace(each, timeout_s=self._config.serving.jobs.timeout_s) for each in requests]
        for request in requests:
            await self._time_limits.check(request)
        if control is not None:
            await caller.check(requests[0])
        guide = (await with_control(requests[0], control, self._characters)).control  # all have one size
        submissions = []
        for variation, each in enumerate(requests):
            request = replace(each, control=guide)
            key = f"story/{story}/{batch}/{plan.panel}/{variation}"
            pending = PendingTake(key, plan.panel, now, variation, _settings(plan, request), plan.digest)
            submissions.append(_Submission(pending, request, self._job(pending, request, bool(subjects), caller.owner)))
        return submissions


def _batch(key: RequestId | None) -> str:
    """What the keys of one request's jobs have in common: the same for a repeated request."""
    return secrets.token_hex(16) if key is None else hashlib.sha256(key.key.encode()).hexdigest()[:32]


def _settings(plan: PanelPlan, request: GenerationRequest) -> dict[str, Any]:
    """See `components.stories.story.Take`."""
    characters = [
        {"id": each.id, "name": each.name, "target_word": each.word, "strength": each.strength}
        | {"face_strength": each.face_strength, "body_strength": each.body_strength}
        for each in plan.characters
    ]
    return {
        "prompt": plan.prompt_with_mentions,
        "revised_prompt": plan.prompt,
        "characters": characters,
        "size": f"{request.width}x{request.height}",
        "negative_prompt": request.negative_prompt,
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "scheduler": request.scheduler,
        **model_settings(request),
    }


def _redraw_prompt(prompt: str, settings: Mapping[str, Any]) -> str:
    """The prompt with words in place of the mentions of the take's characters.

    Raises:
        ApiError: an ``@`` names none of them.
    """
    shown = Cast(CastMember(each["id"], each["name"], each["target_word"], 0) for each in settings["characters"])
    mentions = find_mentions(prompt, shown)
    return replace_mentions(prompt, mentions, [find_mentioned(mention, shown).word for mention in mentions])


def _error_values(error: Exception) -> dict[str, Any]:
    """The ``error`` of a panel."""
    if isinstance(error, ApiError):
        return {"message": str(error.detail), "param": error.param, "code": error.code}
    if isinstance(error, ValidationError):
        return {"message": f"prompt: {error.errors()[0]['msg']}", "param": "prompt", "code": "invalid_prompt"}
    _, message, param, code = describe_error(error)
    return {"message": message, "param": param, "code": code}
