"""Makes references of uploaded images: subject mask, face box and advice on quality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import zip_longest

from PIL import Image

from components.characters.advice import advise
from components.characters.character import Reference
from components.characters.target_word import TargetWord, stated_word
from components.config import Config
from components.content import ContentCheck
from components.cut_outs import CutOut, cut_out, cut_out_with_face
from components.data.decode import Decoded
from components.data.region import find_mask
from components.data.schema import Box
from components.errors import DataError, WordError
from components.face_detector import FaceDetector
from components.model.naming import WordNamer
from deploy.characters.uploads import UploadReader
from deploy.interfaces.errors import StatedRegionError
from deploy.interfaces.protocols import Namer
from deploy.interfaces.requests import StatedRegion


class ReferenceReader:
    """Reads uploaded images; thread-safe.

    Args:
        content: the check that uploads must pass; by default the configured policy's.
        namer: factory, called on first use, of what detects a subject's word; by default SigLIP if
            ``serving.find_words`` is set.

    Raises:
        ConfigError: ``serving.find_faces`` is set, but the extra for it is not installed.
    """

    def __init__(
        self, config: Config, content: ContentCheck | None = None, namer: Callable[[], Namer] | None = None
    ) -> None:
        self._read = UploadReader(config.serving, content)
        #: Side in pixels of a cut-out as the model sees it.
        self.size = 2 * config.vision.view_size
        self._region = config.data.region
        self._detector = FaceDetector() if config.serving.find_faces else None
        if namer is None and config.serving.find_words:
            namer = partial(WordNamer.from_config, config.model, config.naming)
        self._make_namer = namer

    def read(
        self,
        uploads: Sequence[bytes],
        field: str,
        faces: Sequence[Box | None] = (),
        regions: Sequence[StatedRegion] = (),
    ) -> list[Reference]:
        """The references of the images in a request's ``field``; faces and regions that are not given are detected.

        Raises:
            DataError: an image cannot be read, or a face box is not inside its image.
            StatedRegionError: a box or mask does not fit its image.
            ContentError: the content policy refuses an image.
        """
        pictures = [self._read(data, f"{field}[{i}]") for i, data in enumerate(uploads)]
        for region in regions[len(pictures) :]:
            surplus = "boxes" if region.mask is None else "masks"
            raise StatedRegionError(f"{surplus}: more than there are pictures; send one for each, in the same order")
        given = zip_longest(pictures, faces[: len(pictures)], regions)
        found = [self._reference(*each, index) for index, each in enumerate(given)]
        return [replace(r, original=data) for r, data in zip(found, uploads, strict=True)]

    def find_again(self, reference: Reference, region: StatedRegion) -> Reference:
        """A stored reference with its subject as ``region`` states it, or detected again if it states nothing.

        Raises:
            StatedRegionError: the box or mask does not fit the image.
        """
        advice = reference.advice
        mask, box, stated = self._mask(Decoded(reference.picture, None), region, None)
        face_found = None if advice is None else advice.face_found
        again = advise(reference.picture, mask, self.size, face_found, box, stated)
        return replace(reference, mask=mask, advice=again)

    def cut_out(self, reference: Reference) -> CutOut:
        """The cut-out as the model sees it."""
        return cut_out_with_face(reference.picture, reference.mask, reference.face, self.size)

    def word(self, given: str, description: str, references: Sequence[Reference]) -> TargetWord:
        """The subject's word: the given one, the description's head noun, or one detected from the images.

        Raises:
            WordError: there is no word, and words are not detected.
        """
        stated = stated_word(given, description)
        if stated is not None:
            return stated
        if self._make_namer is None:
            raise WordError("target_word: give the word that stands for the character in a prompt")
        cut_outs = [cut_out(r.picture, r.mask, self.size) for r in references]
        return TargetWord(self._namer.name(description, cut_outs).word, "detected")

    @cached_property
    def _namer(self) -> Namer:
        assert self._make_namer is not None
        return self._make_namer()

    def _reference(self, upload: Decoded, face: Box | None, region: StatedRegion | None, index: int) -> Reference:
        picture, face_found = upload.picture, None if face is None else True
        if face is not None:
            _check(face, picture, f"faces[{index}]", DataError)
        elif self._detector is not None:
            face = self._detector(picture)
            face_found = face is not None
        mask, box, stated = self._mask(upload, region or StatedRegion(), index)
        advice = advise(picture, mask, self.size, face_found, box, stated)
        return Reference(picture, mask, face, advice)

    def _mask(self, upload: Decoded, region: StatedRegion, index: int | None) -> tuple[Image.Image, Box | None, bool]:
        """The mask of the subject, the box in which it was searched for, and whether it came with the image.

        Args:
            index: of the image in its request; None if the request is about one image.
        """
        mask_field, box_field = ("mask", "box") if index is None else (f"masks[{index}]", f"boxes[{index}]")
        if region.mask is not None:
            return self._read.mask(region.mask, upload.picture.size, mask_field), None, True
        if region.box is not None:
            _check(region.box, upload.picture, box_field, StatedRegionError)
        return find_mask(upload, self._region, region.box), region.box, upload.mask is not None


def _check(box: Box, picture: Image.Image, field: str, error: type[DataError]) -> None:
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= picture.width and 0 <= y0 < y1 <= picture.height):
        raise error(
            f"{field}: not a box inside its picture; write left, top, right, bottom in pixels of the upright picture, "
            "or null"
        )
