"""Identities of the models and stage versions of a dataset: results of other ones must not be mixed with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from components.config import Config
from components.errors import ArtifactError
from components.fingerprint import digest_files, fingerprint
from components.model.vision import encoder_identity

#: The folders of a base model that preparation depends on, and those that training reads.
_ENCODING = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
DENOISING = ("unet", "scheduler")
#: The versions of the stages. Increment a stage's number in the change that alters its output for the same input;
#: earlier datasets are then prepared again. Moves, renames, messages and speed need no increment.
#: `tests/data/test_stage_versions.py` compares the output of each stage with that of its version.
STAGES: Mapping[str, int] = {
    # The caption's clean form, the word, the split, and the other pictures of a row (`plan`, `captions`).
    "plan": 2,
    # Pixels: decoding, the subject's region, buckets and crops, cut-outs, face boxes, perceptual hashes; the cut-outs
    # that a row may show (`curate`).
    "curate": 3,
    # The phrases that may name a subject, and the choice among them (`components.model.naming`).
    "word": 1,
    # Latents, text tokens, reference features, masks and face groups at their resolution (`encode`).
    "encode": 1,
    # Which rows become a unit's shards, with which columns and references (`unit_writer`); for the columns see also
    # `SCHEMA_VERSION`.
    "write": 2,
    # Which rows are near-duplicates of others (`duplicates`, `assemble`).
    "assemble": 1,
}
#: The version of what a row without a word gets where the picture confirms no phrase of its caption: 1 rejected the
#: row, 2 takes the caption's head noun. Only such rows are prepared again.
UNCONFIRMED_WORD = 2
#: Releases without versions identified their stages by a hash of source files, which their datasets store.
RELEASED: Mapping[str, Mapping[str, int]] = {
    # 0.1.0, commit 11882ae
    "9d229501c615df00": {"plan": 1, "curate": 1, "word": 1, "encode": 1, "write": 1, "assemble": 1},
}


def encoder_identities(config: Config) -> dict[str, str]:
    """Identities of the encoding models.

    Raises:
        ArtifactError: ``model.base`` is a path without a pipeline in it.
    """
    return {
        "base": base_identity(config.model.base),
        "vision": encoder_identity(config.model, config.vision),
    }


def stages_identity(stages: Mapping[str, int] = STAGES) -> str:
    """The identity of the stage versions: that of a release with the same ones, so that its datasets are recognised."""
    known = (name for name, versions in RELEASED.items() if versions == stages)
    return next(known, None) or fingerprint(dict(stages))


def base_identity(base: str, parts: Collection[str] = _ENCODING) -> str:
    """The identity of some ``parts`` of ``base``: a hash of their files, wherever they lie, or the hub name.

    Args:
        parts: folders of the base model, by default those of the autoencoder and the text encoders.

    Raises:
        ArtifactError: ``base`` is a path without a pipeline in it.
    """
    root = Path(base)
    if root.is_dir() and (root / "model_index.json").exists():
        files = (file for part in parts for file in (root / part).rglob("*") if file.is_file())
        return digest_files(root, (file.relative_to(root).as_posix() for file in files))
    if root.is_dir() or root.is_absolute():
        raise ArtifactError(
            f"model.base: {base} contains no model_index.json; give a pipeline's directory or a hub name"
        )
    return base
