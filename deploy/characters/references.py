"""Uploaded pictures as references: the subject found, and its face; measured and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import zip_longest

from PIL import Image

from components.characters.advice import advise
from components.characters.character import Reference
from components.characters.target_word import TargetWord, stated_word
from components.config import Config
from components.content import ContentCheck
from components.data.region import subject_mask
from components.data.schema import Box
from components.errors import DataError, WordError
from components.face_detector import FaceDetector
from components.model.naming import WordNamer
from components.pictures import CutOut, cut_out, cut_out_with_face
from deploy.characters.uploads import UploadReader
from deploy.generator.subjects import Namer


class ReferenceReader:
    """Looks at pictures as the configuration says; may be called from several threads.

    Args:
        content: what uploaded pictures have to pass; by default what the policy says.
        namer: finds the words of subjects that nobody has named; by default SigLIP with `serving.find_words`, loaded
            when it is first needed.

    Raises:
        ConfigError: faces are to be found, and the extra is not installed.
    """

    def __init__(
        self, config: Config, content: ContentCheck | None = None, namer: Callable[[], Namer] | None = None
    ) -> None:
        self._read = UploadReader(config.serving, content)
        #: Side in pixels of what the model looks at.
        self.size = 2 * config.vision.view_size
        self._detector = FaceDetector() if config.serving.find_faces else None
        if namer is None and config.serving.find_words:
            namer = partial(WordNamer.from_config, config.model, config.naming)
        self._make_namer = namer

    def read(self, uploads: Sequence[bytes], field: str, faces: Sequence[Box | None] = ()) -> list[Reference]:
        """References of pictures in a request's ``field``, with the faces that are given, or found where none is.

        Raises:
            DataError: a picture cannot be read, or a box is not in its picture.
            ContentError: the policy refuses one.
        """
        pictures = [self._read(data, f"{field}[{i}]") for i, data in enumerate(uploads)]
        pairs = list(zip_longest(pictures, faces[: len(pictures)]))
        return [self._reference(picture, face, f"faces[{i}]") for i, (picture, face) in enumerate(pairs)]

    def cut_out(self, reference: Reference) -> CutOut:
        """As the model sees it."""
        return cut_out_with_face(reference.picture, reference.mask, reference.face, self.size)

    def word(self, given: str, description: str, references: Sequence[Reference]) -> TargetWord:
        """The word that stands for the subject: the one given, the description's, or one for what the pictures show.

        Raises:
            WordError: there is none, and nobody to find one.
        """
        told = stated_word(given, description)
        if told is not None:
            return told
        if self._make_namer is None:
            raise WordError("target_word: give the word that stands for the character in a prompt")
        cut_outs = [cut_out(r.picture, r.mask, self.size) for r in references]
        return TargetWord(self._namer.name(description, cut_outs).word, "detected")

    @cached_property
    def _namer(self) -> Namer:
        assert self._make_namer is not None
        return self._make_namer()

    def _reference(self, picture: Image.Image, given: Box | None, field: str) -> Reference:
        mask, face, found = subject_mask(picture), given, None if given is None else True
        if given is not None:
            _check(given, picture, field)
        elif self._detector is not None:
            face = self._detector(picture)
            found = face is not None
        return Reference(picture, mask, face, advise(picture, mask, self.size, found))


def _check(box: Box, picture: Image.Image, field: str) -> None:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= picture.width and 0 <= y0 < y1 <= picture.height):
        raise DataError(f"{field}: not a box x0, y0, x1, y1 in pixels inside its picture")
