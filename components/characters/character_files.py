"""The files of a character: immutable pictures and masks, and vision tokens.

<id>/picture-<picture>.png                          as uploaded (PNG, JPEG or WebP whatever the ending says), or PNG
<id>/original-<picture>.png                         as uploaded, if its pixels are not the picture's
<id>/mask-<picture>.png                             L, 255 on the subject
<id>/cutout-<picture>-<size>.png                     the cut-out as the model sees it, made when it is first requested
<id>/thumbnail-<picture>-<size>.webp                 the same, small
<id>/tokens-<revision>-<digest>.safetensors         vision tokens of a revision, by the encoder of that digest
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Iterable

from PIL import Image
from safetensors.torch import load, save

from components.characters.character import Character, Picture, Reference, SubjectTokens
from components.data.decode import reads_plainly, turn_back, turned, upright_turn
from components.object_store import ObjectStore, read_or_make
from components.pictures import to_png

#: Number of encoders whose tokens are stored: of the served model, a second one beside it, and the previous one.
_ENCODERS = 3


class CharacterFiles:
    """Reading a missing file raises FileNotFoundError."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def put(self, identifier: str, reference: Reference) -> Picture:
        """Write a picture, its mask and its original under a new id.

        An original whose pixels are the picture's is the picture's file. Its mask is turned as the file is: an earlier
        release, which turns neither, reads both alike.
        """
        identity, original, mask = secrets.token_hex(6), reference.original, reference.mask
        plain = original is not None and reads_plainly(original)
        contents = [original if original is not None and plain else to_png(reference.picture)]
        if original is not None and plain:
            with Image.open(io.BytesIO(original)) as header:
                mask = turned(mask, turn_back(header))
        contents.append(to_png(mask))
        if original is not None and not plain:
            contents.append(original)
        for name, content in zip(_names(identifier, identity), contents, strict=False):
            self._objects.write(name, content)
        return Picture(identity, reference.face, reference.advice, sum(map(len, contents)))

    def reference(self, identifier: str, picture: Picture) -> Reference:
        name, mask_name, _ = _names(identifier, picture.id)
        data = self._objects.read(name)
        shown, mask = _load(data), _load(self._objects.read(mask_name))
        turn = upright_turn(shown)
        return Reference(turned(shown, turn), turned(mask, turn), picture.face, picture.advice)

    def original(self, identifier: str, picture: str) -> bytes:
        """The uploaded file, as far as it is stored; otherwise that of the picture."""
        name, _, uploaded = _names(identifier, picture)
        try:
            return self._objects.read(uploaded)
        except FileNotFoundError:
            return self._objects.read(name)

    def discard(self, identifier: str, pictures: Iterable[Picture]) -> None:
        stored = list(self._objects.names(identifier))
        for picture in pictures:
            made = [name for name in stored if _is_made(name, identifier, picture.id)]
            for name in (*_names(identifier, picture.id), *made):
                self._objects.discard(name)

    def cut_out(self, identifier: str, picture: str, size: int, make: Callable[[], bytes]) -> bytes:
        """As `thumbnail`, of the PNG that is as large as the model's input."""
        return read_or_make(self._objects, f"{_cut_out(identifier, picture)}{size}.png", make)

    def thumbnail(self, identifier: str, picture: str, size: int, make: Callable[[], bytes]) -> bytes:
        """What ``make`` has made of a picture, now or before."""
        return read_or_make(self._objects, f"{_thumbnail(identifier, picture)}{size}.webp", make)

    def tokens(self, identifier: str, revision: int, identity: str) -> SubjectTokens:
        tensors = load(self._objects.read(_tokens(identifier, revision, identity)))
        return SubjectTokens(tensors["tokens"], tensors.get("face"))

    def put_tokens(self, identifier: str, revision: int, identity: str, subject: SubjectTokens) -> None:
        """Store tokens, and remove those of older revisions and of encoders out of use."""
        named = {"tokens": subject.tokens} | ({} if subject.face is None else {"face": subject.face})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
        self._objects.write(_tokens(identifier, revision, identity), save(tensors))
        same = [name for name in self.drop_tokens(identifier, revision) if _revision(name) == revision]
        for name in sorted(same, key=self._age_s)[_ENCODERS:]:
            self._objects.discard(name)

    def drop_tokens(self, identifier: str, revision: int) -> list[str]:
        """Remove the tokens of older revisions; returns the names of the others."""
        found = [name for name in self._objects.names(identifier) if name.startswith(f"{identifier}/tokens-")]
        for name in found:
            if _revision(name) < revision:
                self._objects.discard(name)
        return [name for name in found if _revision(name) >= revision]

    def discard_tokens(self, identifier: str, revision: int, identity: str) -> None:
        self._objects.discard(_tokens(identifier, revision, identity))

    def clear(self, identifier: str) -> None:
        """Remove all files of a character."""
        self._objects.clear(identifier)

    def _age_s(self, name: str) -> float:
        try:
            return self._objects.age_s(name)
        except FileNotFoundError:  # another process removed it
            return float("inf")


def belongs(name: str, character: Character) -> bool:
    """Whether the current row of the character refers to a file of this name."""
    if name.startswith(f"{character.id}/tokens-"):
        return _revision(name) == character.revision
    return any(
        name in _names(character.id, picture.id) or _is_made(name, character.id, picture.id)
        for picture in character.pictures
    )


def _load(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


def _names(identifier: str, picture: str) -> tuple[str, str, str]:
    """The names of a picture's file, of its mask, and of its original if that is another file."""
    picture_, mask, original = (f"{identifier}/{kind}-{picture}.png" for kind in ("picture", "mask", "original"))
    return picture_, mask, original


def _thumbnail(identifier: str, picture: str) -> str:
    """How the names of a picture's thumbnails begin."""
    return f"{identifier}/thumbnail-{picture}-"


def _cut_out(identifier: str, picture: str) -> str:
    """How the names of a picture's cut-outs begin."""
    return f"{identifier}/cutout-{picture}-"


def _is_made(name: str, identifier: str, picture: str) -> bool:
    """Whether the file is made of this picture, and can be made again."""
    return name.startswith((_thumbnail(identifier, picture), _cut_out(identifier, picture)))


def _tokens(identifier: str, revision: int, identity: str) -> str:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
    return f"{identifier}/tokens-{revision}-{digest}.safetensors"


def _revision(name: str) -> int:
    """The revision in the name of a file of tokens; -1 if there is none."""
    revision = name.rpartition("/tokens-")[2].partition("-")[0]
    return int(revision) if revision.isdigit() else -1
