"""The files of takes: images and masks, which never change, and thumbnails.

<story>/<take>.png                     the generated image with its provenance metadata
<story>/<take>.mask-<i>.png            influence mask of a character, mode L
<story>/<take>.<size>.webp             a thumbnail, made on first access
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.object_store import ObjectStore, read_or_make
from components.pictures import ThumbnailSize, thumbnail
from components.stories.tables import not_found


class TakeFiles:
    """Reads raise TakeNotFoundError if there is no such file."""

    def __init__(self, blobs: ObjectStore) -> None:
        self._blobs = blobs

    def write(self, story: str, take: str, picture: bytes, masks: Sequence[bytes]) -> None:
        self._blobs.write(f"{story}/{take}.png", picture)
        for index, mask in enumerate(masks):
            self._blobs.write(f"{story}/{take}.mask-{index}.png", mask)

    def picture(self, story: str, take: str) -> bytes:
        return self._read(f"{story}/{take}.png")

    def mask(self, story: str, take: str, index: int) -> bytes:
        return self._read(f"{story}/{take}.mask-{index}.png")

    def thumbnail(self, story: str, take: str, size: int) -> bytes:
        """A WebP whose longer side is at most ``size`` pixels."""
        name = f"{story}/{take}.{size}.webp"
        return read_or_make(self._blobs, name, lambda: thumbnail(self.picture(story, take), size))

    def discard(self, story: str, takes: Iterable[str], masks: int = 4) -> None:
        """Remove the files of takes."""
        for take in takes:
            masked = (f"mask-{index}.png" for index in range(masks))
            ends = ["png", *masked, *(f"{size}.webp" for size in ThumbnailSize)]
            for end in ends:
                self._blobs.discard(f"{story}/{take}.{end}")

    def clear(self, story: str) -> None:
        """Remove all files of a story."""
        self._blobs.clear(story)

    def _read(self, name: str) -> bytes:
        try:
            return self._blobs.read(name)
        except FileNotFoundError:
            raise not_found("take") from None
