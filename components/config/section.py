"""What every section of the configuration is made of."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

PRESETS = Path(str(files("components"))) / "presets"
#: The directory that holds this project's packages, `weights` among them: a checkout, or an environment's packages.
PACKAGE_ROOT = PRESETS.parent.parent


class Section(BaseModel):
    """A part of the tree: unknown keys are refused, and values cannot be changed after validation.

    The docstring below a field is its description: `docs/reference/configuration.md` is generated from these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def _place(value: Path | str) -> Path | str:
    return value if "://" in str(value) else Path(value)


#: A local path, or a URL of any filesystem that fsspec knows, such as ``s3://bucket/folder``.
Place = Annotated[str | Path, AfterValidator(_place)]
