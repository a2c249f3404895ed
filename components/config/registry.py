"""The model registry, evaluation, and the gates of promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from components.config.section import Place, Section


class GateConfig(Section):
    """A gate passes if the interval of the paired difference, candidate minus champion, lies above ``min_delta``."""

    metric: str
    """Name of a metric of the benchmark in `evaluation.benchmark`."""
    min_delta: float = 0.0
    """Required gain in the metric's unit; a negative value is the loss that is tolerated."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Confidence level of the two-sided bootstrap interval."""


class RegistryConfig(Section):
    """MLflow tracking, the model registry, and the gates of promotion."""

    tracking_uri: str = "sqlite:///runs/mlflow.db"
    """MLflow tracking URI: SQLite, PostgreSQL (extra ``postgres``), or the URL of an MLflow server."""
    artifacts: Path = Path("runs/artifacts")
    """Root directory of artifacts, for a tracking store that serves none; downloads from a server are cached in it."""
    experiment: str = "realcustom"
    """MLflow experiment of all runs."""
    model: str = "realcustom"
    """Name of the registered model."""
    alias: str = "champion"
    """Alias of the version that `generate`, `evaluate` and the service load."""
    gates: tuple[GateConfig, ...] = ()
    """Gates that a candidate must pass before it receives `alias`."""
    lock_timeout_s: float = Field(120, gt=0)
    """Maximum time in seconds to wait while another promotion is in progress."""

    @property
    def absolute_uri(self) -> str:
        """The tracking URI with an absolute path: the same database from every working directory."""
        uri, sqlite = self.tracking_uri, "sqlite:///"
        return sqlite + str(Path(uri.removeprefix(sqlite)).absolute()) if uri.startswith(sqlite) else uri


class DreamBenchConfig(Section):
    """The DreamBench protocol; the defaults are the published ones: 30 subjects, 25 prompts, 4 images of each."""

    source: Place = Path("runs/dreambench")
    """Folder or URL of the dataset: one folder of photographs per subject, and `prompts_and_classes.txt`."""
    seeds: int = Field(4, ge=1)
    """Images per subject and prompt; their seeds count up from `evaluation.seed`."""
    subjects: int | None = Field(None, ge=1)
    """Use only the first so many subjects that have a folder; by default all."""
    prompts: int | None = Field(None, ge=1)
    """Use only the first so many prompts of either list; by default all."""
    live: tuple[str, ...] = ("cat", "dog")
    """Classes whose subjects get the prompts for live subjects."""
    mask: Literal["region", "influence"] = "region"
    """How the subject is segmented in a generated image for the masked metrics: as `data.region` says, or by the
    influence mask."""


class EvaluationConfig(Section):
    """Benchmarks, and the judges that score images (they never condition the model)."""

    benchmark: Literal["toybench", "dreambench"] = "toybench"
    """Benchmark of `evaluate` and `promote`."""
    model: str | None = None
    """Model to evaluate: ``models:/name/version``, ``models:/name@alias`` or an adapter directory; by default
    `registry.alias`."""
    encoders: str | None = None
    """Directory of the toy world's judges: the identity encoder and the recognizer."""
    dino: str | None = None
    """DreamBench's DINO: a hub name or a directory; without it and `clip`, `encoders` are used."""
    clip: str | None = None
    """DreamBench's CLIP: a hub name or a directory; set together with `dino`."""
    prompts: int = Field(200, ge=1)
    """Number of cases of ToyBench."""
    batch_size: int = Field(25, ge=1)
    """Images that are generated or scored at a time."""
    workers: int = Field(1, ge=1)
    """Maximum number of processes that generate or score at the same time."""
    seed: int = 20_000
    """Seed of the first case."""
    output: Path = Path("runs/evaluation")
    """Directory of scores, images and tables."""
    dreambench: DreamBenchConfig = DreamBenchConfig()
    """The DreamBench protocol."""

    @model_validator(mode="after")
    def _dino_and_clip_go_together(self) -> EvaluationConfig:
        if (self.dino is None) != (self.clip is None):
            raise ValueError("dino and clip go together: name both or neither")
        return self
