"""SigLIP's vision tower, loaded from a checkpoint of both towers."""

from __future__ import annotations

import transformers


class SiglipVisionModel(transformers.SiglipVisionModel):
    """The vision tower alone: the text tower of a full checkpoint is expected, so loading does not report it."""

    _keys_to_ignore_on_load_unexpected = [r"^text_model\.", r"^logit_(scale|bias)$"]
