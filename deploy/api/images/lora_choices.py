"""The LoRAs of a request."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from deploy.api.schema import StrictRequest, decode_json

MAX_LORAS = 4


class LoraChoice(StrictRequest):
    """A LoRA that the service has loaded (``model.loras``)."""

    name: str = Field(min_length=1, max_length=64)
    weight: float = Field(1, ge=-4, le=4)


def _distinct_names(loras: list[LoraChoice]) -> list[LoraChoice]:
    if len({lora.name for lora in loras}) < len(loras):
        raise ValueError("name each LoRA once")
    return loras


#: The LoRAs of a request; in a form, a JSON list.
Loras = Annotated[
    list[LoraChoice], BeforeValidator(decode_json), AfterValidator(_distinct_names), Field(max_length=MAX_LORAS)
]
