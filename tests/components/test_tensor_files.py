"""Safetensors files that are written and read tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.tensor_files import TensorFile, write_tensors


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "odd": torch.randint(0, 255, (3,), generator=generator).to(torch.uint8),
        "matrix": torch.randn(5, 7, generator=generator),
        "half": torch.randn(3, 3, generator=generator).half(),
        "brain": torch.randn(9, generator=generator).bfloat16(),
        "scalar": torch.tensor(4.0),
        "counts": torch.arange(6).view(2, 3),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
        "turned": torch.randn(4, 6, generator=generator).T,
    }


def test_safetensors_reads_what_is_written(tmp_path: Path) -> None:
    written, calls = tensors(), []

    def value(name: str) -> Tensor:
        calls.append(name)
        return written[name]

    write_tensors(tmp_path / "ours", {name: value.to("meta") for name, value in written.items()}, value)
    found = load_file(tmp_path / "ours")
    assert found.keys() == written.keys() and sorted(calls) == sorted(written)
    assert all(torch.equal(found[name], written[name]) and found[name].dtype == written[name].dtype for name in found)


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    written = {name: value.contiguous() for name, value in tensors().items()}
    save_file(written, tmp_path / "theirs", metadata={"step": "3"})
    file = TensorFile(tmp_path / "theirs")
    assert file.layout.keys() == written.keys()
    for name, expected in written.items():
        found = file.read(name)
        assert torch.equal(found, expected) and found.dtype == expected.dtype


def test_rows_and_metadata_are_read_alone(tmp_path: Path) -> None:
    value = torch.arange(24, dtype=torch.bfloat16).view(6, 4)
    tensors = {"rows": value, "long": torch.arange(5), "empty": torch.zeros(0, 4)}
    write_tensors(tmp_path / "file", tensors, tensors.__getitem__, {"rows": "12,40"})
    file = TensorFile(tmp_path / "file")
    assert file.metadata == {"rows": "12,40"} and file.layout.keys() == tensors.keys()
    assert torch.equal(file.read_rows("rows", 2, 5), value[2:5])
    assert torch.equal(file.read_rows("long", 4, 5), torch.tensor([4]))
    assert file.read_rows("rows", 3, 3).shape == file.read_rows("empty", 0, 0).shape == (0, 4)
    assert load_file(tmp_path / "file").keys() == tensors.keys()


def test_a_tensor_that_is_not_as_announced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one"):
        write_tensors(tmp_path / "file", {"one": torch.zeros(2)}, lambda name: torch.zeros(3))


def test_a_truncated_file_is_found(tmp_path: Path) -> None:
    save_file({"one": torch.ones(1000)}, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content[:-8])
    with pytest.raises(EOFError, match="one"):
        TensorFile(tmp_path / "file").read("one")
