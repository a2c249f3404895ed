"""Schemas of source rows and prepared rows.

A **prepared row** is one training example with the outputs of the frozen models. Columns, with h, w
the latents' size (the bucket's, in latent positions), t text tokens, d channels, p the pooled width and n patches a
view:

====================  =================  ===========================================================================
id                    string             the picture's path in its source, ``#2`` … added for further captions of it
group                 string             the subject; train and validation share no group
caption, word         string             the prompt, cleaned, and the word in it that stands for the subject
word_from             string             ``given``, shared by its ``group``, ``detected``, or of the ``caption``
source                string             where the picture comes from: the row's own note, else its path
licence               string or null     the licence it may be used under
picture_hash          string             256-bit perceptual hash of the whole picture, in hexadecimal digits
split                 string             ``train`` or ``validation``; in the directory's name
bucket                string             width x height of the training picture, as ``512x768``; in the directory's name
latents               float16 [4, h, w]  posterior mean of the autoencoder, scaled
text_tokens           float16 [t, d]     both text encoders' tokens
text_pooled           float16 [p]        the second text encoder's pooled vector
time_ids              float32 [6]        height, width of the original; top, left of the crop; height, width wanted
mask                  float16 [h, w]     share of the subject in every latent position
head                  float16 [h, w]     share of the subject's head; 0 without a head box
reference             int32              the row's own cut-out, in the references of the shard's unit
others                list of int32      those of other pictures of its subject; empty if there are none
====================  =================  ===========================================================================

Rows of a unit share a file of **references**, in which every cut-out is stored once, whichever rows, captions and
buckets show it:

====================  =================  ===========================================================================
reference             int32              the number by which rows name it, ascending
id                    string             the picture: the id of its first row, or the path of a picture that is no row
deep                  float16 [n, d]     features of the cut-out (`VisionFeatures`)
local                 float16 [4 n, d]
face                  float16 [n]        1 on patches whose centre the head box holds (the face group); 0 without one
shallow               float16 [k, n, d]  features at k earlier blocks, where ``vision.siglip_shallow`` names some
====================  =================  ===========================================================================

With ``data.encode=latents`` pixels stand in place of features, with ``text`` also in place of latents, and training
encodes them:

====================  =================  ===========================================================================
picture               uint8 [H, W, 3]    in place of latents (``text``)
cutout                uint8 [r, r, 3]    in place of deep and local
face_box              float32 [4]        in place of face, in the cut-out's pixels; zeros without
====================  =================  ===========================================================================
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

#: Incremented when the columns above change.
SCHEMA_VERSION = 4
#: The versions that training reads. Rows of version 3 hold the features of two references each.
READ_VERSIONS = (3, SCHEMA_VERSION)

Box = tuple[int, int, int, int]


class SubjectCaption(BaseModel):
    """A row of the source, in any format; ``data.columns`` maps fields to columns.

    Pictures are paths relative to the row's file, or bytes in the row where the format supports them. Unknown columns
    are ignored.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    #: The picture.
    image: str = Field(min_length=1)
    #: Its description: the prompt in training.
    caption: str = Field(min_length=1)
    #: The word (or phrase) of the caption that names the subject.
    word: str | None = None
    #: Where the subject is: a grey picture of the image's size, white on the subject, …
    mask: str | None = None
    #: … or a box x0, y0, x1, y1 in pixels of the upright picture.
    box: Box | None = None
    #: The face box: where the subject's face (or head) is, as ``box``.
    head_box: Box | None = None
    #: The same for all pictures of one subject; a picture without a group is alone.
    group: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    #: Other pictures of the same subject; by default all others of the group.
    references: list[str] | None = None
    #: Where the picture comes from.
    source: str | None = None
    #: Its licence.
    licence: str | None = None

    @field_validator("box", "head_box")
    @classmethod
    def _spans_pixels(cls, box: Box | None) -> Box | None:
        if box is not None and not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise ValueError("write x0, y0, x1, y1 in pixels, with 0 <= x0 < x1 and 0 <= y0 < y1")
        return box


class AnnotatedSubject(TypedDict):
    """A subject in a picture. ``image`` and ``mask`` are addresses in the source's `SourceFiles`."""

    id: str
    image: str
    mask: str | None
    box: Box | None
    head_box: Box | None


class SourceRow(TypedDict):
    """A validated `SubjectCaption` with identifiers and addresses."""

    subject: AnnotatedSubject
    caption: str
    word: str | None
    group: str
    references: list[str] | None
    source: str
    licence: str | None


def read_subject(values: dict[str, Any]) -> AnnotatedSubject:
    """A subject of what JSON holds of it."""
    boxes = {name: values[name] and tuple(values[name]) for name in ("box", "head_box")}
    return cast(AnnotatedSubject, values | boxes)


def read_row(values: dict[str, Any]) -> SourceRow:
    """A row of what JSON holds of it."""
    return cast(SourceRow, values | {"subject": read_subject(values["subject"])})
