"""Where runs and versions are kept, how they are measured, and what promotes them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from components.config.section import Place, Section


class GateConfig(Section):
    """What a candidate must show: the interval of its paired difference to the champion lies above ``min_delta``."""

    #: A metric of the benchmark that `evaluation.benchmark` names.
    metric: str
    #: In the metric's own unit; below 0 it is what the candidate may lose.
    min_delta: float = 0.0
    #: Of the bootstrap interval, two-sided.
    confidence: float = Field(0.95, gt=0, lt=1)


class RegistryConfig(Section):
    """Where runs and versions are kept, and what a version must show to be served."""

    tracking_uri: str = "sqlite:///runs/mlflow.db"
    #: Root of the artifacts, for a tracking store that serves none itself.
    artifacts: Path = Path("runs/artifacts")
    experiment: str = "realcustom"
    model: str = "realcustom"
    alias: str = "champion"
    #: What a candidate is judged by before it gets the alias.
    gates: tuple[GateConfig, ...] = ()
    #: Longest wait for another promotion that is being written down.
    lock_timeout_s: float = Field(120, gt=0)

    @property
    def absolute_uri(self) -> str:
        """The tracking URI with an absolute path, so that it means the same in every process of a machine."""
        uri, sqlite = self.tracking_uri, "sqlite:///"
        return sqlite + str(Path(uri.removeprefix(sqlite)).absolute()) if uri.startswith(sqlite) else uri


class DreamBenchConfig(Section):
    """The DreamBench protocol; what is not given is as published: 30 subjects, 25 prompts, 4 pictures of each."""

    #: A folder of photographs a subject, with `prompts_and_classes.txt`.
    source: Place = Path("runs/dreambench")
    seeds: int = Field(4, ge=1)
    #: Only the first so many subjects that have a folder, and the first so many prompts of either list.
    subjects: int | None = Field(None, ge=1)
    prompts: int | None = Field(None, ge=1)
    #: Classes whose subjects get the prompts for live subjects.
    live: tuple[str, ...] = ("cat", "dog")
    #: What cuts the subject out of a drawn picture for the masked variant: `data.region`, or its influence mask.
    mask: Literal["region", "influence"] = "region"


class EvaluationConfig(Section):
    """Benchmarks, and judges that never condition anything."""

    benchmark: Literal["toybench", "dreambench"] = "toybench"
    #: ``models:/name/version`` or an adapter directory; by default what `registry.alias` points at.
    model: str | None = None
    #: A directory of the toy world's judges.
    encoders: str | None = None
    #: DreamBench's encoders, each a hub name or a directory; without them `encoders` stand in.
    dino: str | None = None
    clip: str | None = None
    prompts: int = Field(200, ge=1)
    batch_size: int = Field(25, ge=1)
    #: Most processes that draw or score at the same time.
    workers: int = Field(1, ge=1)
    seed: int = 20_000
    output: Path = Path("runs/evaluation")
    dreambench: DreamBenchConfig = DreamBenchConfig()

    @model_validator(mode="after")
    def _dino_and_clip_go_together(self) -> EvaluationConfig:
        if (self.dino is None) != (self.clip is None):
            raise ValueError("dino and clip go together: name both or neither")
        return self
