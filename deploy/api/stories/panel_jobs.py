"""Panels are drawn as jobs, a job a panel and variation."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from components.config import Config
from components.errors import RealCustomError
from components.fingerprint import fingerprint
from components.jobs.job import NewJob, QueueBusyError, QueueFullError
from components.stories.answers import RequestKey
from components.stories.panel_plan import PanelDrawing
from components.stories.takes import COLLECTOR, PendingTake
from deploy.api.error_responses import ApiError
from deploy.api.images.generation_request import build_request
from deploy.api.images.schema import ImageRequest
from deploy.api.jobs.routes import submit_job
from deploy.api.quotas import Caller
from deploy.api.stories.schema import DrawnPanel, DrawRequest, DrawResponse, SkippedPanel
from deploy.interfaces.errors import BusyError, describe_error
from deploy.interfaces.protocols import Jobs
from deploy.interfaces.requests import GenerationRequest, JobPayload, RequestedSubject
from deploy.interfaces.stories import Stories

#: Looks at each picture in the making.
_PREVIEWS = 3
#: What refuses a job before it is there.
_REFUSALS = (ApiError, QueueFullError, QueueBusyError, BusyError)


@dataclass(frozen=True)
class _Drawing:
    """A job that is to be submitted, what it costs, and the take that it will make."""

    pending: PendingTake
    request: GenerationRequest
    job: NewJob


class StoryDrawing:
    """Draws panels of stories.

    Args:
        model: that is served.
    """

    def __init__(self, config: Config, model: str, stories: Stories, jobs: Jobs) -> None:
        self._config, self._model, self._stories, self._jobs = config, model, stories, jobs

    async def draw(self, story: str, wanted: DrawRequest, caller: Caller, key: RequestKey | None) -> DrawResponse:
        """Submit the jobs. What cannot be drawn is skipped, and says so at its panel.

        Raises:
            ApiError, QueueFullError, QueueBusyError: the first job is refused. If a later one is, it and the rest are
                skipped.
        """
        drawings: list[_Drawing] = []
        errors: dict[str, dict[str, Any]] = {}
        skipped: list[SkippedPanel] = []
        batch = secrets.token_hex(16) if key is None else hashlib.sha256(key.key.encode()).hexdigest()[:32]
        drawn = time.time()
        for plan in await self._stories.plan(story, wanted.panels, wanted.n, caller.owner):
            if plan.busy:
                skipped.append(SkippedPanel(panel=plan.panel, reason="it is being drawn already"))
                continue
            try:
                drawings += self._drawings(story, plan, batch, drawn, caller)
            except (ApiError, RealCustomError, ValidationError) as error:
                errors[plan.panel] = _shown(error)
            if plan.error is not None:
                errors[plan.panel] = plan.error
        skipped += [SkippedPanel(panel=panel, reason=error["message"]) for panel, error in errors.items()]
        if errors:
            await self._stories.note(story, errors, caller.owner)
        if drawings:
            await self._stories.begin(story, [drawing.pending for drawing in drawings], caller.owner)
        data, refused = await self._submit(story, drawings, caller)
        return DrawResponse(data=data, skipped=[*skipped, *refused])

    async def _submit(
        self, story: str, drawings: list[_Drawing], caller: Caller
    ) -> tuple[list[DrawnPanel], list[SkippedPanel]]:
        data: list[DrawnPanel] = []
        for index, drawing in enumerate(drawings):
            try:
                job, _ = await submit_job(self._jobs, drawing.job, drawing.request, caller)
            except _REFUSALS as error:
                rest = drawings[index:]
                await self._stories.abandon([each.pending.key for each in rest], caller.owner)
                if not data:
                    raise
                problem = _shown(error)
                panels = list(dict.fromkeys(each.pending.panel for each in rest))
                await self._stories.note(story, dict.fromkeys(panels, problem), caller.owner)
                return data, [SkippedPanel(panel=panel, reason=problem["message"]) for panel in panels]
            data.append(DrawnPanel(panel=drawing.pending.panel, job=job.id))
        return data, []

    def _drawings(self, story: str, plan: PanelDrawing, batch: str, drawn: float, caller: Caller) -> list[_Drawing]:
        """The jobs of one panel; none if it cannot be drawn."""
        if plan.error is not None:
            return []
        subjects = [
            RequestedSubject(each.id, each.word, each.strength, each.face_strength, each.body_strength)
            for each in plan.characters
        ]
        found = []
        for variation, seed in enumerate(plan.seeds):
            body = ImageRequest(prompt=plan.prompt, size=plan.size, seed=seed)
            request = build_request(body, self._config, plan.prompt, subjects, caller.owner)
            request = replace(request, timeout_s=self._config.serving.jobs.timeout_s)
            key = f"story/{story}/{batch}/{plan.panel}/{variation}"
            pending = PendingTake(key, plan.panel, drawn, variation, _settings(plan, request), plan.digest)
            job = NewJob(
                payload=JobPayload(request, bool(subjects), _PREVIEWS, self._model).to_json(),
                digest=fingerprint([key, plan.digest]),
                steps=request.steps,
                pictures=1,
                owner=caller.owner,
                key=key,
                collector=COLLECTOR,
            )
            found.append(_Drawing(pending, request, job))
        return found


def _settings(plan: PanelDrawing, request: GenerationRequest) -> dict[str, Any]:
    """See `components.stories.story.Take`."""
    characters = [
        {"id": each.id, "name": each.name, "target_word": each.word, "strength": each.strength}
        | {"face_strength": each.face_strength, "body_strength": each.body_strength}
        for each in plan.characters
    ]
    return {
        "prompt": plan.sent,
        "revised_prompt": plan.prompt,
        "characters": characters,
        "size": f"{request.width}x{request.height}",
        "negative_prompt": request.negative_prompt,
        "steps": request.steps,
        "guidance_scale": request.guidance_scale,
        "scheduler": request.scheduler,
    }


def _shown(error: Exception) -> dict[str, Any]:
    """An error as panels have them."""
    if isinstance(error, ApiError):
        return {"message": str(error.detail), "param": error.param, "code": error.code}
    if isinstance(error, ValidationError):
        return {"message": f"prompt: {error.errors()[0]['msg']}", "param": "prompt", "code": "invalid_prompt"}
    _, message, param, code = describe_error(error)
    return {"message": message, "param": param, "code": code}
