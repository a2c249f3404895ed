"""The archive format of a story: a ZIP of ``manifest.json`` and the PNG files that it names.

Archives are untrusted: the manifest is validated field by field, only files named in it are read, all of them together
up to a limit, and nothing is unpacked to disk.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.errors import DataError
from components.stories.story import Paper

FORMAT: Literal["realcustom-story"] = "realcustom-story"
VERSION: Literal[1] = 1
#: Errors of `zipfile` for members that are missing, damaged, encrypted or compressed by an unsupported method.
_UNREADABLE = (
    *(KeyError, ValueError, OSError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 20_000_000

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Strength = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: The name of a PNG in the archive.
File = Annotated[str, Field(pattern=r"^[a-z0-9/_-]{1,100}\.png$")]
#: Id of a character or a take within the archive.
Reference = Annotated[str, Field(max_length=64)]


class _Part(BaseModel):
    """Base of the manifest's models; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class ArchivedPages(_Part):
    panels_per_page: int = Field(4, ge=1, le=6)
    title_page: bool = True
    paper: Paper = "a4"


class ArchivedPicture(_Part):
    file: File
    #: 255 on the subject.
    mask: File
    #: x0, y0, x1, y1 in pixels.
    face: tuple[int, int, int, int] | None = None


class ArchivedCharacter(_Part):
    id: Reference
    name: str = Field(min_length=1, max_length=100)
    description: str = Field("", max_length=1000)
    target_word: str = Field(min_length=1, max_length=64)
    pictures: list[ArchivedPicture] = Field(min_length=1, max_length=16)


class ArchivedMention(_Part):
    name: str = Field(min_length=1, max_length=100)
    character: Reference | None = None


class ArchivedStrengths(_Part):
    id: Reference
    strength: Strength = 1.0
    face_strength: Strength = 1.0
    body_strength: Strength = 1.0


class ArchivedBalloon(_Part):
    text: str = Field(max_length=500)
    x: Share
    y: Share
    tail_x: Share
    tail_y: Share


class ArchivedTakeCharacter(ArchivedStrengths):
    name: str = Field(max_length=100)
    target_word: str = Field(max_length=64)


class ArchivedRedraw(_Part):
    take: str = Field(max_length=48)
    strength: float = Field(gt=0, le=1)


class ArchivedLora(_Part):
    name: str = Field(min_length=1, max_length=64)
    weight: float = Field(1, ge=-4, le=4)


#: Imported ones need not be loaded here.
Loras = Annotated[list[ArchivedLora], Field(max_length=4)]


class ArchivedControl(_Part):
    name: str = Field(min_length=1, max_length=64)
    scale: float = Field(ge=0, le=2)
    start: float = Field(ge=0, le=1)
    end: float = Field(ge=0, le=1)


class ArchivedSettings(_Part):
    prompt: str = Field(max_length=8000)
    revised_prompt: str = Field(max_length=8000)
    characters: list[ArchivedTakeCharacter] = Field([], max_length=20)
    size: str = Field("auto", max_length=16)
    negative_prompt: str = Field("", max_length=4000)
    steps: int = Field(ge=0, le=100_000)
    guidance_scale: float = Field(ge=0, le=1000)
    scheduler: str | None = Field(None, max_length=64)
    loras: Loras = []
    control: ArchivedControl | None = None
    redraw: ArchivedRedraw | None = None


class ArchivedTake(_Part):
    id: Reference
    file: File
    masks: list[File] = Field([], max_length=4)
    created: float = Field(ge=0, le=1e11)
    seed: Seed
    model: str = Field(max_length=200)
    model_version: str = Field(max_length=200)
    settings: ArchivedSettings
    #: Generated with the panel's current values, except the seed.
    current: bool = False


class ArchivedPanel(_Part):
    prompt: list[Annotated[str, Field(max_length=3000)] | ArchivedMention] = Field(max_length=500)
    caption: str = Field("", max_length=1000)
    characters: list[ArchivedStrengths] = Field([], max_length=20)
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    seed: int | None = Field(None, ge=0, lt=2**32)
    seed_locked: bool = False
    hidden: bool = False
    balloons: list[ArchivedBalloon] = Field([], max_length=20)
    with_characters: bool = True
    sampler: str | None = Field(None, max_length=64)
    steps: int | None = Field(None, ge=1, le=100_000)
    guidance_scale: float | None = Field(None, ge=1, le=1000)
    loras: Loras = []
    chosen: Reference | None = None
    #: Oldest first.
    takes: list[ArchivedTake] = Field([], max_length=10_000)


class Manifest(_Part):
    format: Literal["realcustom-story"] = FORMAT
    version: Literal[1] = VERSION
    title: str = Field(min_length=1, max_length=200)
    style: str = Field("", max_length=500)
    language: str = Field("en", max_length=35, pattern=r"^[A-Za-z0-9-]+$")
    pages: ArchivedPages = ArchivedPages()
    characters: list[ArchivedCharacter] = Field([], max_length=1000)
    panels: list[ArchivedPanel] = Field([], max_length=10_000)


class StoryArchive:
    """Reads an archive.

    Args:
        max_bytes: limit of the unpacked bytes of all reads together.

    Raises:
        DataError: ``data`` is not such an archive, or its manifest is invalid; the message names the field.
    """

    def __init__(self, data: bytes, max_bytes: int) -> None:
        self._left = max_bytes
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _UNREADABLE:
            raise DataError("file: no ZIP file, or damaged; send what `export?format=story` has given") from None
        text = self._read(_MANIFEST, min(_MAX_MANIFEST_BYTES, max_bytes))
        if text is None:
            raise DataError("file: it holds no manifest.json; send what `export?format=story` has given")
        self.manifest = _parsed(text)

    def file(self, name: str) -> bytes | None:
        """The content of a file; None if it is missing or damaged.

        Raises:
            DataError: the limit of unpacked bytes is exceeded.
        """
        return self._read(name, self._left)

    def _read(self, name: str, limit: int) -> bytes | None:
        try:
            with self._zip.open(name) as stream:
                data = stream.read(limit + 1)
        except _UNREADABLE:
            return None
        if len(data) > limit:
            raise DataError("file: it unpacks to more than may be imported (serving.stories.max_unpacked_bytes)")
        self._left -= len(data)
        return data


def _parsed(text: bytes) -> Manifest:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError("file: its manifest.json is no JSON") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise DataError("file: it is no story of this software")
    if tree.get("version") != VERSION:
        raise DataError(f"file: a newer release wrote it; this one reads version {VERSION}")
    try:
        manifest = Manifest.model_validate(tree)
    except (ValidationError, RecursionError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else ""
        raise DataError(f"file: manifest.json: {where or 'it'} is not as it must be") from None
    return manifest
