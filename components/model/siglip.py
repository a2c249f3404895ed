"""SigLIP's vision tower, loaded from a checkpoint of both towers."""

from __future__ import annotations

import transformers


class SiglipVisionModel(transformers.SiglipVisionModel):
    """The vision tower alone; loading reports neither the text tower nor a pooling head that is left out."""

    _keys_to_ignore_on_load_unexpected = [r"^text_model\.", r"^logit_(scale|bias)$", r"^(vision_model\.)?head\."]
