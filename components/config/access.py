"""Access to the service, and the content check of pictures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from components.config.section import Section

#: YAML 1.1 reads the bare words ``off`` and ``on`` as booleans.
_YAML_WORDS: dict[object, str] = {False: "off", True: "on"}


def _word(value: object) -> object:
    return _YAML_WORDS[value] if isinstance(value, bool) else value


class AccessConfig(Section):
    """Authentication of requests by API keys."""

    keys: Annotated[Literal["off", "required"], BeforeValidator(_word)] = "off"
    """``required`` rejects requests without an API key (`realcustom key create`); ``off`` accepts every request."""
    open_to_network: bool = False
    """Allow the service to listen beyond the loopback interface although `keys` is ``off``."""
    refresh_s: float = Field(2, gt=0, le=60)
    """Seconds for which a gateway caches the keys; a revoked key stops working after at most this time."""
    rate_limits: Literal["gateway", "database"] | None = None
    """Where requests a minute are counted: in the ``database``, for all gateways together, or in each ``gateway``. By
    default in the database if there may be several gateways (`gateways.max`). While the database does not answer, each
    gateway counts by itself."""
    audit_days: float = Field(365, gt=0)
    """Days for which entries of the audit log are kept."""
    stale_s: float = Field(30, gt=0)
    """Seconds for which a gateway goes on with its cached keys while the database does not answer."""


#: Labels of the detector.
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
    """Content check: which pictures are refused for what they show (needs the extra ``content``)."""

    policy: Annotated[Literal["off", "inputs", "outputs", "both"], BeforeValidator(_word)] = "off"
    """Which pictures are checked: uploads (``inputs``), generated pictures (``outputs``), both, or none (``off``)."""
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
    """Minimum score, from 0 to 1, at which each label of the detector is refused; labels not listed are accepted."""

    @property
    def inputs(self) -> bool:
        return self.policy in ("inputs", "both")

    @property
    def outputs(self) -> bool:
        return self.policy in ("outputs", "both")
