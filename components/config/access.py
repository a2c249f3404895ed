"""Who may use the service, and what it takes in and hands out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from components.config.section import Section

#: Words that YAML takes for truth values.
_YAML_WORDS: dict[object, str] = {False: "off", True: "on"}


def _word(value: object) -> object:
    return _YAML_WORDS[value] if isinstance(value, bool) else value


class AccessConfig(Section):
    """Who is let in."""

    #: ``required`` lets nobody in without a key (`realcustom key create`); ``off`` lets in whoever reaches the port.
    keys: Annotated[Literal["off", "required"], BeforeValidator(_word)] = "off"
    #: Serve beyond this machine without keys all the same.
    open_to_network: bool = False
    #: How long a gateway trusts what it has read of the keys; one that is revoked stops to work after so long.
    refresh_s: float = Field(2, gt=0, le=60)
    #: How long it goes on with what it has read while the database does not answer.
    stale_s: float = Field(30, gt=0)


#: What the detector finds on pictures.
Finding = Literal[
    "ANUS_COVERED",
    "ANUS_EXPOSED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "BELLY_COVERED",
    "BELLY_EXPOSED",
    "BUTTOCKS_COVERED",
    "BUTTOCKS_EXPOSED",
    "FACE_FEMALE",
    "FACE_MALE",
    "FEET_COVERED",
    "FEET_EXPOSED",
    "FEMALE_BREAST_COVERED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_COVERED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
]


class ContentConfig(Section):
    """Which pictures are refused for what they show (needs the extra ``content``)."""

    #: What is looked at: uploaded pictures, drawn ones, or both.
    policy: Annotated[Literal["off", "inputs", "outputs", "both"], BeforeValidator(_word)] = "off"
    #: The least score, of 1, at which a finding is refused; what is not named here is not.
    refused: dict[Finding, Annotated[float, Field(gt=0, le=1)]] = Field(
        {
            "ANUS_EXPOSED": 0.5,
            "BUTTOCKS_EXPOSED": 0.5,
            "FEMALE_BREAST_EXPOSED": 0.5,
            "FEMALE_GENITALIA_EXPOSED": 0.5,
            "MALE_GENITALIA_EXPOSED": 0.5,
        },
        min_length=1,
    )

    @property
    def inputs(self) -> bool:
        return self.policy in ("inputs", "both")

    @property
    def outputs(self) -> bool:
        return self.policy in ("outputs", "both")
