"""References of any shape and number, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from components.content import blacken_refused
from components.engine.future import ImageFuture
from components.engine.request import Phase, Request
from components.engine.request_queue import RequestQueue
from components.model.pipeline import RealCustomPipeline
from components.model.subjects import Subject
from components.model.vision import square
from tests.engine.test_engine_model import Subjects, pipeline, subjects

__all__ = ["pipeline", "subjects"]


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_a_reference_that_is_not_square_is_padded_with_white(pipeline: RealCustomPipeline) -> None:
    wide = Image.new("RGB", (60, 20), "red")
    padded = np.asarray(square(wide, 60))
    assert (padded[20:40] == [255, 0, 0]).all() and (padded[:20] == 255).all() and (padded[40:] == 255).all()
    side = pipeline.reference_size
    wide = wide.resize((side, side // 2))
    by_hand = Image.new("RGB", (side, side), "white")
    by_hand.paste(wide, (0, side // 4))
    assert torch.equal(pipeline.encode_subject([wide]), pipeline.encode_subject([by_hand]))
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    assert square(whole, 64).tobytes() == whole.resize((64, 64), Image.Resampling.BICUBIC).tobytes()


def test_subjects_of_2_3_and_4_references_cost_what_they_are(pipeline: RealCustomPipeline, subjects: Subjects) -> None:
    one = subjects.cat.tokens
    several = [Subject(one.repeat(count, 1), "cat") for count in (2, 3, 4)]
    prompts = ["a cat"] * 3
    request = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "latent"}
    generators = [seed() for _ in several]
    together = pipeline(prompts, [[each] for each in several], generator=generators, **request).images
    alone = pipeline("a cat", subjects.cat, generator=seed(), **request).images
    assert (together - alone).abs().max() < 1e-3, "repeated tokens are one reference"

    from components.model.generation_request import GenerationRequest

    begun = pipeline.begin(GenerationRequest(prompts, [[each] for each in several], height=64, width=64))
    lengths = sorted(len(key.tokens) for key in begun.conditioning.subject_keys if key.row >= 3)
    assert lengths == [len(one) * count for count in (2, 3, 4)]


def test_the_budget_counts_references() -> None:
    def future(references: int) -> ImageFuture:
        request = Request("a cat", 1, 10, 10, 4, 1.0, references=references)
        return ImageFuture(request, lambda: 0.0, lambda: None)

    assert [future(count).request.load for count in (0, 1, 2, 11)] == [100, 100, 110, 200]
    assert future(11).request.cost == 400, "a quota counts pixel-steps"

    def admitted(references: int) -> int:
        queue = RequestQueue(400)
        queue.waiting = [future(references) for _ in range(5)]
        count = 0
        while (chosen := queue.admit()) is not None:
            chosen.enter(Phase.ENCODING)
            queue.join(chosen, None, lambda: None)  # type: ignore[arg-type,return-value]
            count += 1
        call = queue.next_call()
        assert call is not None and len(call.members) == count
        return count

    assert [admitted(count) for count in (1, 4, 11)] == [4, 3, 2]


def test_a_content_check_blackens_what_it_refuses(pipeline: RealCustomPipeline, subjects: Subjects) -> None:
    seen: list[tuple[int, int]] = []

    def check(picture: Image.Image) -> bool:
        seen.append(picture.size)
        return len(seen) % 2 == 0

    request = {"num_inference_steps": 2, "height": 64, "width": 64}
    usual = pipeline("a cat", generator=seed(), **request)
    assert usual.refused is None
    pipeline.content_check = check
    try:
        for kind in ("pil", "np", "pt"):
            output = pipeline(["a cat", "a robot"], generator=[seed(), seed()], output_type=kind, **request)
            assert output.refused == [True, False]
            first, second = (np.asarray(image) for image in output.images)
            assert not first.any() and second.any()
        assert pipeline("a cat", output_type="latent", **request).refused is None
        assert seen == [(64, 64)] * 6
    finally:
        pipeline.content_check = None


def test_a_check_that_accepts_changes_nothing() -> None:
    image = Image.new("RGB", (8, 8), "red")
    assert blacken_refused([image], lambda _: True) == ([image], [False])
    assert replace(Request("a", 1, 8, 8, 1, 1.0), references=1).load == 64
