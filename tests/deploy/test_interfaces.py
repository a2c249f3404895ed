"""The types that the service's parts exchange."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from components.errors import RealCustomError
from components.jobs.job import QueueFullError
from components.provenance.image_files import Output
from deploy.interfaces.errors import (
    BusyError,
    ErrorDetails,
    OwnerLimitError,
    UnavailableError,
    UnsupportedRequestError,
    describe_error,
)
from deploy.interfaces.requests import GenerationRequest, JobPayload, RequestedSubject, UploadedSubject

#: As release 11882ae stores it.
STORED: dict[str, Any] = {
    "order": {
        "prompt": "a robot",
        "negative_prompt": "",
        "width": 64,
        "height": 96,
        "steps": 4,
        "guidance_scale": 3.5,
        "seeds": [1, 2],
        "subjects": [
            {
                "character": "char-1",
                "word": "robot",
                "strength": 0.5,
                "face_strength": 1.0,
                "body_strength": 1.0,
                "shown": None,
                "revision": None,
            },
            {
                "character": "",
                "word": "cat",
                "strength": 1.0,
                "face_strength": 1.0,
                "body_strength": 1.0,
                "shown": {"cut_outs": ["PNG"], "faces": [[1.0, 2.0, 3.0, 4.0]]},
                "revision": None,
            },
        ],
        "mask_scope": 0.3,
        "owner": "ada",
        "timeout_s": 60.0,
        "scheduler": "ddim",
        "output": {"format": "jpeg", "quality": 80},
        "notes": ["a note"],
    },
    "return_masks": True,
    "previews": 2,
    "model": "m",
}
UPLOADED = RequestedSubject("", "cat", uploaded=UploadedSubject((b"PNG",), ((1.0, 2.0, 3.0, 4.0),)))


def request(revision: int | None) -> GenerationRequest:
    subjects = (RequestedSubject("char-1", "robot", 0.5, revision=revision), UPLOADED)
    output = Output("jpeg", 80)
    return GenerationRequest(
        "a robot", "", 64, 96, 4, 3.5, (1, 2), subjects, 0.3, "ada", 60.0, "ddim", output, ("a note",)
    )


def test_a_job_stores_how_its_prompt_is_read() -> None:
    asked = replace(request(revision=None), prompt_options={"prompt_weighting": True, "target_size": [64, 96]})
    payload = JobPayload(asked, True, 2, "m")
    assert JobPayload.from_json(json.loads(json.dumps(payload.to_json()))) == payload


def test_jobs_keep_the_format_of_earlier_releases() -> None:
    payload = JobPayload(request(revision=3).without_revisions(), True, 2, "m")
    assert payload.to_json() == STORED
    assert JobPayload.from_json(STORED) == payload == JobPayload(request(revision=None), True, 2, "m")


@pytest.mark.parametrize(
    ("error", "details"),
    [
        (OwnerLimitError("yours"), (429, "yours", None, "queue_full")),
        (QueueFullError("full"), (429, "full", None, "queue_full")),
        (BusyError("busy", 3), (503, "busy", None, "overloaded")),
        (UnavailableError("down"), (503, "down", None, "unavailable")),
        (UnsupportedRequestError("scheduler: no", "scheduler"), (400, "scheduler: no", "scheduler", "invalid_order")),
        (RealCustomError("secret"), (500, "internal error", None, None)),
        (ValueError("secret"), (500, "internal error", None, None)),
    ],
)
def test_errors_are_described_by_their_most_specific_class(error: Exception, details: ErrorDetails) -> None:
    assert describe_error(error) == details
