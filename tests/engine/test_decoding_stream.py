"""Decoding on a GPU: in a stream of its own, after the latents are there, and before their memory is used again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from components.engine.decoding_stream import DecodingStream


class FakeCuda:
    """Streams and events that write down what is asked of them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.made = 0

    def Event(self) -> Any:
        return SimpleNamespace(record=lambda stream: self.log.append(f"record in {stream}"))

    def current_stream(self, device: Any) -> str:
        return "the default stream"

    def Stream(self, device: Any) -> Any:
        self.made += 1
        return SimpleNamespace(
            wait_event=lambda event: self.log.append("wait for the latents"),
            synchronize=lambda: self.log.append("synchronize"),
        )

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.log.append("enter")
        yield
        self.log.append("leave")

    def tensor(self, name: str) -> Any:
        kept = lambda stream: self.log.append(f"keep {name}")  # noqa: E731
        return SimpleNamespace(device=SimpleNamespace(type="cuda"), record_stream=kept)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr("components.engine.decoding_stream.torch", SimpleNamespace(cuda=fake))
    return fake


def test_decoding_waits_for_its_latents_and_keeps_their_memory(cuda: FakeCuda) -> None:
    decoding, latents, mask = DecodingStream(), cuda.tensor("latents"), cuda.tensor("mask")
    mark = decoding.mark(latents)
    assert cuda.log == ["record in the default stream"]
    for _ in range(2):
        cuda.log.clear()
        with decoding.after(mark, [latents, mask, torch.zeros(1)]):
            cuda.log.append("decode")
        assert cuda.log == [
            "wait for the latents", "keep latents", "keep mask", "enter", "decode", "leave", "synchronize",
        ]  # fmt: skip
    assert cuda.made == 1


def test_a_decoding_that_fails_is_waited_for_too(cuda: FakeCuda) -> None:
    decoding, latents = DecodingStream(), cuda.tensor("latents")
    with pytest.raises(ValueError, match="broken"), decoding.after(decoding.mark(latents), [latents]):
        raise ValueError("broken")
    assert cuda.log[-1] == "synchronize"


def test_a_processor_has_no_streams() -> None:
    decoding, latents = DecodingStream(), torch.zeros(1)
    mark = decoding.mark(latents)
    assert mark is None
    with decoding.after(mark, [latents]):
        pass


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_is_decoded_beside_other_work_is_what_was_there() -> None:
    decoding, found = DecodingStream(), []
    value = torch.zeros(1000, 1000, device="cuda")
    for _ in range(200):
        value = value + 1

    def decode(mark: Any) -> None:
        with decoding.after(mark, [value]):
            assert torch.cuda.current_stream() != torch.cuda.default_stream()
            found.append(float(value.sum()))

    thread = threading.Thread(target=decode, args=(decoding.mark(value),))
    thread.start()
    thread.join()
    assert found == [200e6]
