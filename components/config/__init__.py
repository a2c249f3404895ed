"""One typed configuration tree for every workflow: a YAML preset, then ``--set key=value`` overrides.

    config = load_config("tiny", ["training.steps=200", "data.source=pictures"])

Unknown keys and wrong values are refused with the name of the field. Relative paths are relative to the working
directory, except the presets' ``package://`` paths, which lie in the checkout (or the installed package's parent).
"""

from __future__ import annotations

from components.config.access import AccessConfig, ContentConfig
from components.config.batch import BatchConfig
from components.config.data import DataConfig, WorldConfig
from components.config.load import load_config, presets
from components.config.model import (
    AdapterConfig,
    ConditioningConfig,
    GuidanceConfig,
    ModelConfig,
    NamingConfig,
    SamplingConfig,
    VisionConfig,
)
from components.config.registry import DreamBenchConfig, EvaluationConfig, GateConfig, RegistryConfig
from components.config.section import PACKAGE_ROOT, PRESETS, Place
from components.config.serving import C2paConfig, JobsConfig, RolloutConfig, ServingConfig, StoriesConfig
from components.config.training import CurriculumConfig, PretrainingConfig, TrainingConfig
from components.config.tree import Config, for_workers

__all__ = [
    "PACKAGE_ROOT",
    "PRESETS",
    "AccessConfig",
    "AdapterConfig",
    "BatchConfig",
    "C2paConfig",
    "ConditioningConfig",
    "Config",
    "ContentConfig",
    "CurriculumConfig",
    "DataConfig",
    "DreamBenchConfig",
    "EvaluationConfig",
    "GateConfig",
    "GuidanceConfig",
    "JobsConfig",
    "ModelConfig",
    "NamingConfig",
    "Place",
    "PretrainingConfig",
    "RegistryConfig",
    "RolloutConfig",
    "SamplingConfig",
    "ServingConfig",
    "StoriesConfig",
    "TrainingConfig",
    "VisionConfig",
    "WorldConfig",
    "for_workers",
    "load_config",
    "presets",
]
