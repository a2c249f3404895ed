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
from components.stories.drawing import PanelDrawing
from components.stories.takes import COLLECTOR, PendingTake
from deploy.api.error_responses import ApiError, explain
from deploy.api.images.requests import make_order
from deploy.api.images.schema import ImageRequest
from deploy.api.jobs.routes import submit_job
from deploy.api.quotas import Caller
from deploy.api.stories.schema import DrawnPanel, DrawRequest, DrawResponse, SkippedPanel
from deploy.interfaces.protocols import BusyError, CharacterUse, JobOrder, Jobs, Order
from deploy.interfaces.stories import Stories

#: Looks at each picture in the making.
_PREVIEWS = 3
#: What refuses a job before it is there.
_REFUSALS = (ApiError, QueueFullError, QueueBusyError, BusyError)


@dataclass(frozen=True)
class _Drawing:
    """A job that is to be submitted, what it costs, and the take that it will make."""

    pending: PendingTake
    order: Order
    job: NewJob


class StoryDrawing:
    """Draws panels of stories.

    Args:
        model: that is served.
    """

    def __init__(self, config: Config, model: str, stories: Stories, jobs: Jobs) -> None:
        self._config, self._model, self._stories, self._jobs = config, model, stories, jobs

    async def draw(self, story: str, wanted: DrawRequest, by: Caller, key: RequestKey | None) -> DrawResponse:
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
        for plan in await self._stories.plan(story, wanted.panels, wanted.n, by.owner):
            if plan.busy:
                skipped.append(SkippedPanel(panel=plan.panel, reason="it is being drawn already"))
                continue
            try:
                drawings += self._drawings(story, plan, batch, drawn, by)
            except (ApiError, RealCustomError, ValidationError) as error:
                errors[plan.panel] = _shown(error)
            if plan.error is not None:
                errors[plan.panel] = plan.error
        skipped += [SkippedPanel(panel=panel, reason=error["message"]) for panel, error in errors.items()]
        if errors:
            await self._stories.note(story, errors, by.owner)
        if drawings:
            await self._stories.begin(story, [drawing.pending for drawing in drawings], by.owner)
        data, refused = await self._submit(story, drawings, by)
        return DrawResponse(data=data, skipped=[*skipped, *refused])

    async def _submit(
        self, story: str, drawings: list[_Drawing], by: Caller
    ) -> tuple[list[DrawnPanel], list[SkippedPanel]]:
        data: list[DrawnPanel] = []
        for index, drawing in enumerate(drawings):
            try:
                job, _ = await submit_job(self._jobs, drawing.job, drawing.order, by)
            except _REFUSALS as error:
                rest = drawings[index:]
                await self._stories.abandon([each.pending.key for each in rest], by.owner)
                if not data:
                    raise
                problem = _shown(error)
                panels = list(dict.fromkeys(each.pending.panel for each in rest))
                await self._stories.note(story, dict.fromkeys(panels, problem), by.owner)
                return data, [SkippedPanel(panel=panel, reason=problem["message"]) for panel in panels]
            data.append(DrawnPanel(panel=drawing.pending.panel, job=job.id))
        return data, []

    def _drawings(self, story: str, plan: PanelDrawing, batch: str, drawn: float, by: Caller) -> list[_Drawing]:
        """The jobs of one panel; none if it cannot be drawn."""
        if plan.error is not None:
            return []
        subjects = [
            CharacterUse(each.id, each.word, each.strength, each.face_strength, each.body_strength)
            for each in plan.characters
        ]
        found = []
        for variation, seed in enumerate(plan.seeds):
            request = ImageRequest(prompt=plan.prompt, size=plan.size, seed=seed)
            order = make_order(request, self._config, plan.prompt, subjects, by.owner)
            order = replace(order, timeout_s=self._config.serving.jobs.timeout_s)
            key = f"story/{story}/{batch}/{plan.panel}/{variation}"
            pending = PendingTake(key, plan.panel, drawn, variation, _settings(plan, order), plan.digest)
            job = NewJob(
                payload=JobOrder(order, bool(subjects), _PREVIEWS, self._model).pack(),
                digest=fingerprint([key, plan.digest]),
                steps=order.steps,
                pictures=1,
                owner=by.owner,
                key=key,
                collector=COLLECTOR,
            )
            found.append(_Drawing(pending, order, job))
        return found


def _settings(plan: PanelDrawing, order: Order) -> dict[str, Any]:
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
        "size": f"{order.width}x{order.height}",
        "negative_prompt": order.negative_prompt,
        "steps": order.steps,
        "guidance_scale": order.guidance_scale,
        "scheduler": order.scheduler,
    }


def _shown(error: Exception) -> dict[str, Any]:
    """An error as panels have them."""
    if isinstance(error, ApiError):
        return {"message": str(error.detail), "param": error.param, "code": error.code}
    if isinstance(error, ValidationError):
        return {"message": f"prompt: {error.errors()[0]['msg']}", "param": "prompt", "code": "invalid_prompt"}
    _, message, param, code = explain(error)
    return {"message": message, "param": param, "code": code}
