"""What is missing for workers and their encoder processes is said before a training waits for it."""

from __future__ import annotations

import logging

import pytest

from components.config import TrainingConfig
from components.errors import ConfigError
from components.training.resources import check_resources

PLENTY = {"CPU": 64.0, "GPU": 16.0}


def training(**settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"workers": 4, "use_gpu": True, "cpus_per_worker": 2} | settings)


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({}, {"CPU": 8.0, "GPU": 4.0}),
        ({"encoders": 8, "encoder_cpus": 1}, {"CPU": 12.0, "GPU": 4.0}),
        ({"encoders": 8, "encoder_gpus": 1}, {"CPU": 12.0, "GPU": 8.0}),
        ({"encoders": 2, "encoder_gpus": 0.5}, {"CPU": 12.0, "GPU": 6.0}),
        ({"encoders": 2, "encoder_gpus": 0.1}, {"CPU": 12.0, "GPU": 5.0}),
        ({"min_workers": 1}, {"CPU": 2.0, "GPU": 1.0}),
        ({"min_workers": 1, "encoders": 1}, {"CPU": 9.0, "GPU": 3.0}),
        ({"use_gpu": False, "encoders": 1, "encoder_gpus": 0.25}, {"CPU": 12.0, "GPU": 1.0}),
    ],
)
def test_what_fits_is_started(
    settings: dict[str, object], there: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    check_resources(training(**settings), there, may_grow=False)
    check_resources(training(**settings), there, may_grow=True)
    assert not caplog.records


@pytest.mark.parametrize(
    ("settings", "there", "said"),
    [
        # Workers hold all GPUs, and no encoder process starts.
        (
            {"encoders": 2, "encoder_gpus": 1},
            PLENTY | {"GPU": 4.0},
            r"^training\.encoder_gpus=1: .* 4 workers .* 4 GPUs the workers leave 0: set training\.encoder_gpus=0 ",
        ),
        ({"encoders": 2, "encoder_gpus": 1}, PLENTY | {"GPU": 7.0}, r"the workers leave 3: .* training\.encoders=0 "),
        # Two GPUs hold two processes of 0.6 each, not three.
        ({"workers": 3, "encoders": 1, "encoder_gpus": 0.6}, PLENTY | {"GPU": 5.0}, r"^training\.encoder_gpus=0\.6"),
        ({"encoders": 1, "encoder_cpus": 2}, {"CPU": 15.0, "GPU": 4.0}, r"^training\.encoder_cpus=2: .* leave 7: set"),
        # Elastic workers take what there is.
        ({"min_workers": 1, "encoders": 1, "encoder_gpus": 1}, PLENTY | {"GPU": 3.0}, r"3 workers .* leave 0"),
        ({}, {"CPU": 64.0}, r"^training\.workers=4 workers reserve 4 GPUs, but the cluster has 0: .*use_gpu=false"),
        ({"min_workers": 2}, {"CPU": 3.0, "GPU": 9.0}, r"^training\.min_workers=2 .* 4 CPUs, .* has 3: .*cpus_per_wor"),
    ],
)
def test_what_does_not_fit_is_named_with_its_remedy(
    settings: dict[str, object], there: dict[str, float], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_resources(training(**settings), there, may_grow=False)
    with caplog.at_level(logging.WARNING):
        check_resources(training(**settings), there, may_grow=True)
    (record,) = caplog.records
    assert "waits until nodes with more join" in record.getMessage()
