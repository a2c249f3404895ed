"""The files of a character: its pictures and their masks, never changed, and its vision tokens.

<id>/picture-<picture>.png                          RGB, as uploaded
<id>/mask-<picture>.png                             L, 255 on the subject
<id>/thumbnail-<picture>-<size>.webp                 the cut-out, made when it is first asked for
<id>/tokens-<revision>-<digest>.safetensors         of the pictures at a revision, by the encoder of that digest
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Iterable

from PIL import Image
from safetensors.torch import load, save

from components.characters.character import Character, Picture, Reference, SubjectTokens
from components.object_store import ObjectStore
from components.pictures import to_png

#: Encoders whose tokens are kept at the same time: the served one's, another's beside it, and the one's before them.
_ENCODERS = 3
#: Longer sides of thumbnails in pixels.
THUMBNAILS = (128, 256, 512)


class CharacterFiles:
    """Reading what is not there raises FileNotFoundError."""

    def __init__(self, blobs: ObjectStore) -> None:
        self._blobs = blobs

    def put(self, identifier: str, reference: Reference) -> Picture:
        """Write a picture and its mask under an id of their own."""
        picture = Picture(secrets.token_hex(6), reference.face, reference.advice)
        for name, image in zip(_names(identifier, picture.id), (reference.picture, reference.mask), strict=True):
            self._blobs.write(name, to_png(image))
        return picture

    def reference(self, identifier: str, picture: Picture) -> Reference:
        shown, mask = (_load(self._blobs.read(name)) for name in _names(identifier, picture.id))
        return Reference(shown, mask, picture.face, picture.advice)

    def discard(self, identifier: str, pictures: Iterable[Picture]) -> None:
        for picture in pictures:
            thumbnails = (_thumbnail(identifier, picture.id, size) for size in THUMBNAILS)
            for name in (*_names(identifier, picture.id), *thumbnails):
                self._blobs.discard(name)

    def thumbnail(self, identifier: str, picture: str, size: int, make: Callable[[], bytes]) -> bytes:
        """What ``make`` has made of a picture, now or before."""
        name = _thumbnail(identifier, picture, size)
        try:
            return self._blobs.read(name)
        except FileNotFoundError:
            made = make()
        self._blobs.write(name, made)
        return made

    def tokens(self, identifier: str, revision: int, identity: str) -> SubjectTokens:
        tensors = load(self._blobs.read(_tokens(identifier, revision, identity)))
        return SubjectTokens(tensors["tokens"], tensors.get("face"))

    def put_tokens(self, identifier: str, revision: int, identity: str, subject: SubjectTokens) -> None:
        """Keep tokens, in place of those of older revisions and of encoders that are out of use."""
        kept = {"tokens": subject.tokens} | ({} if subject.face is None else {"face": subject.face})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
        self._blobs.write(_tokens(identifier, revision, identity), save(tensors))
        same = [name for name in self.drop_tokens(identifier, revision) if _revision(name) == revision]
        for name in sorted(same, key=self._age_s)[_ENCODERS:]:
            self._blobs.discard(name)

    def drop_tokens(self, identifier: str, revision: int) -> list[str]:
        """Remove the tokens of older revisions; the names of the rest."""
        found = [name for name in self._blobs.names(identifier) if name.startswith(f"{identifier}/tokens-")]
        for name in found:
            if _revision(name) < revision:
                self._blobs.discard(name)
        return [name for name in found if _revision(name) >= revision]

    def discard_tokens(self, identifier: str, revision: int, identity: str) -> None:
        self._blobs.discard(_tokens(identifier, revision, identity))

    def clear(self, identifier: str) -> None:
        """Remove everything of a character's."""
        self._blobs.clear(identifier)

    def _age_s(self, name: str) -> float:
        try:
            return self._blobs.age_s(name)
        except FileNotFoundError:  # another process was quicker
            return float("inf")


def belongs(name: str, character: Character) -> bool:
    """Whether a file of this name is one of the character's as it is now."""
    if name.startswith(f"{character.id}/tokens-"):
        return _revision(name) == character.revision
    if name.startswith(f"{character.id}/thumbnail-"):
        return any(name.startswith(_thumbnail(character.id, picture.id)) for picture in character.pictures)
    return any(name in _names(character.id, picture.id) for picture in character.pictures)


def _load(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


def _names(identifier: str, picture: str) -> tuple[str, str]:
    return f"{identifier}/picture-{picture}.png", f"{identifier}/mask-{picture}.png"


def _thumbnail(identifier: str, picture: str, size: int | None = None) -> str:
    """The name of a thumbnail; without a size, how the names of all of a picture's begin."""
    begin = f"{identifier}/thumbnail-{picture}-"
    return begin if size is None else f"{begin}{size}.webp"


def _tokens(identifier: str, revision: int, identity: str) -> str:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return f"{identifier}/tokens-{revision}-{digest}.safetensors"


def _revision(name: str) -> int:
    """The revision that a file of tokens is named after; -1 where it is named after none."""
    revision = name.rpartition("/tokens-")[2].partition("-")[0]
    return int(revision) if revision.isdigit() else -1
