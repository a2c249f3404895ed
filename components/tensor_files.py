"""Safetensors files, written and read tensor by tensor.

`safetensors.torch.save_file` takes all tensors at once, and its memory-mapped reader counts the whole file as memory
of the process. Here a file needs the memory of one tensor, whatever its size.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

#: Names of the format's dtypes.
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
#: The header begins with its length in this many bytes, and is padded to a multiple of it.
_WORD = 8


def write_tensors(
    file: Path,
    layout: Mapping[str, Tensor],
    value: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file.

    Args:
        layout: shape and dtype of every tensor; their values are not read, so they may be on the device ``meta``.
        value: called once for each name, in the order of the file; on the CPU, of the layout's shape and dtype.
        metadata: texts that the format keeps beside the tensors.
    """
    names = writing_order(layout)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in names:
        size = layout[name].nbytes
        header[name] = {
            "dtype": _NAMES[layout[name].dtype],
            "shape": list(layout[name].shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _WORD)
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(_WORD, "little") + encoded)
        for name in names:
            tensor, expected = value(name), layout[name]
            if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
                raise ValueError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, not as announced")
            stream.write(_bytes(tensor.detach().contiguous()))


def writing_order(layout: Mapping[str, Tensor]) -> list[str]:
    """The names in the order of the file: by size of an element, so that every tensor is aligned, then by name."""
    return sorted(layout, key=lambda name: (-layout[name].element_size(), name))


class TensorFile:
    """A safetensors file that is read one tensor at a time.

    Args:
        file: whose header is read here.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(_WORD), "little")
            header = json.loads(stream.read(length))
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        #: Shape and dtype of every tensor, on the device ``meta``.
        self.layout = {
            name: torch.empty(entry["shape"], dtype=_DTYPES[entry["dtype"]], device="meta")
            for name, entry in header.items()
        }
        self._begin = {name: _WORD + length + entry["data_offsets"][0] for name, entry in header.items()}

    def read(self, name: str) -> Tensor:
        """The tensor ``name``, in memory of its own.

        Raises:
            EOFError: the file ends before the tensor does.
        """
        return self._read(torch.empty_like(self.layout[name], device="cpu"), name, 0)

    def read_rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` (exclusive) of the tensor ``name``, of which nothing else is read."""
        whole = self.layout[name]
        rows = torch.empty((stop - start, *whole.shape[1:]), dtype=whole.dtype)
        return self._read(rows, name, start * (whole.nbytes // max(1, len(whole))))

    def _read(self, tensor: Tensor, name: str, offset: int) -> Tensor:
        """Fill ``tensor`` from ``offset`` bytes behind the beginning of ``name``."""
        with self.file.open("rb") as stream:
            stream.seek(self._begin[name] + offset)
            if stream.readinto(_bytes(tensor)) < tensor.nbytes:
                raise EOFError(f"{self.file} is truncated: {name} is not complete")
        return tensor


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous ``tensor``. The format is little-endian."""
    if sys.byteorder != "little":
        raise NotImplementedError("safetensors files are little-endian, and this machine is not")
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
