"""A CUDA stream for decoding, so that its kernels run beside those of the denoising and not between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class DecodingStream:
    """Runs what one thread decodes in a stream of its own, if its tensors are on a GPU; else as it is."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    def mark(self, latents: Tensor) -> Any:
        """The end of what the calling thread has asked of the device of ``latents``, for `after`; None on a CPU."""
        if latents.device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(latents.device))
        return event

    @contextmanager
    def after(self, mark: Any, tensors: Iterable[Tensor]) -> Iterator[None]:
        """Run the block in the stream, once the device has reached ``mark``; at its end the stream is idle.

        Args:
            tensors: made in other streams, and read by the block. Their memory is not given to others before that.
        """
        if mark is None:
            yield
            return
        read = [tensor for tensor in tensors if tensor.device.type == "cuda"]
        if self._stream is None:
            self._stream = torch.cuda.Stream(read[0].device)
        stream = self._stream
        stream.wait_event(mark)
        for tensor in read:
            tensor.record_stream(stream)
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            stream.synchronize()
