"""The typed configuration of every workflow: a YAML preset, a YAML file of one's own, ``key=value`` overrides.

    config = load_config("tiny", ["training.steps=200", "data.source=pictures"], file="mine.yaml")

Errors name the key, and the file if the value comes from it. Relative paths are relative to the working directory;
``package://x`` is the path ``x`` beside the installed packages (in a checkout: below its root).
"""

from __future__ import annotations

from components.config.access import AccessConfig, ContentConfig
from components.config.batch import BatchConfig
from components.config.data import DataConfig, WorldConfig
from components.config.distillation import DistillationConfig
from components.config.load import DEFAULT_PRESET, load_config, named_preset, presets
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
from components.config.serving import (
    C2paConfig,
    DatabaseLimits,
    JobsConfig,
    RolloutConfig,
    ServingConfig,
    StorageQuotas,
    StoriesConfig,
)
from components.config.training import CurriculumConfig, PretrainingConfig, TrainingConfig
from components.config.tree import Config, for_workers

__all__ = [
    "DEFAULT_PRESET",
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
    "DatabaseLimits",
    "DistillationConfig",
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
    "StorageQuotas",
    "StoriesConfig",
    "TrainingConfig",
    "VisionConfig",
    "WorldConfig",
    "for_workers",
    "load_config",
    "named_preset",
    "presets",
]
