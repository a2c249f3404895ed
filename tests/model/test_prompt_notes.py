"""What users are told about how their prompts are read."""

from __future__ import annotations

import threading

import pytest

from components.model.pipeline import RealCustomPipeline
from components.model.prompt_notes import PromptReader, find_unread
from tests.engine.test_engine_model import pipeline

__all__ = ["pipeline"]

LONG = "a robot on the beach" + ", very detailed" * 90


@pytest.mark.parametrize(
    ("prompt", "weighting", "expected"),
    [
        ("a robot (indoors)", True, []),
        ("a robot (indoors)", False, []),
        ("a (robot:1.3)", True, ["prompt: weights were read: “robot” × 1.3"]),
        ("a (robot:9) (hat:.5)", True, ["prompt: weights were read: “robot” × 4 (4 is the most)"]),
        ("a (robot:1.3)", False, ["prompt: “(robot:1.3)” was read as text; prompt_weighting reads weights"]),
        (
            "a ((red hat))",
            False,
            ["prompt: “((red hat))” was read as text; (text:1.2), with prompt_weighting, is a weight"],
        ),
        ("a ((red hat))", True, ["prompt: “((red hat))” was read as text; (text:1.2) is a weight"]),
        ("a \\(\\(red hat\\)\\)", True, []),
    ],
)
def test_weights_are_noted(pipeline: RealCustomPipeline, prompt: str, weighting: bool, expected: list[str]) -> None:
    assert pipeline.prompt_reader().notes(prompt, "", weighting) == expected


def test_the_length_of_a_prompt_is_noted(pipeline: RealCustomPipeline) -> None:
    reader = pipeline.prompt_reader()
    (cut,) = reader.notes(LONG, "", False)
    limit = pipeline.tokenizer.model_max_length - 2
    assert cut.startswith(f"prompt: beyond the {limit} tokens that are read: “") and len(cut) < 200
    assert cut.endswith("; prompt_weighting reads all of it, in chunks")
    tail = cut.partition("“")[2].partition("…")[0]
    assert tail in LONG and LONG.startswith("a robot") and "a robot" not in tail
    (chunks,) = reader.notes("", LONG, True)
    number = -(-len(pipeline.tokenizer(LONG, add_special_tokens=False)["input_ids"]) // limit)
    assert chunks.startswith("negative_prompt: it was read in ") and int(chunks.split()[5]) >= number > 1


def test_notes_are_made_beside_the_engine(pipeline: RealCustomPipeline) -> None:
    """Fast tokenizers refuse two threads at a time."""
    reader, failures = PromptReader(pipeline), []

    def read() -> None:
        try:
            for _ in range(50):
                reader.notes(LONG, LONG, True)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        pipeline.tokenizer(LONG, truncation=True, padding="max_length")
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("prompt", "words", "text", "share"),
    [
        ("a robot, naïve café, Zoë, ª 5 º, ½", [], None, 0),
        ("海滩", [], "海滩", 1),
        ("robot 在海滩上", ["robot"], "在海滩上", 1),
        ("on a beach, 在 上 here", [], "在 上", 2 / 14),
        ("🤖 1 2 3", [], None, 0),
        ("Привет, мир!", [], "Привет, мир!", 1),
    ],
)
def test_what_is_not_read_is_found(prompt: str, words: list[str], text: str | None, share: float) -> None:
    found = find_unread(prompt, words)
    assert (None if found is None else found.text) == text
    assert (0 if found is None else found.share) == pytest.approx(share)
