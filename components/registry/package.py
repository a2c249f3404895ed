"""The files of a version: the adapter, its settings, and MLflow's metadata, with checksums.

MLmodel, model_script.py, …         read by `mlflow.pyfunc.load_model`: a script, nothing pickled
input_example.json                  an example row
artifacts/<adapter>/                the adapter's directory
artifacts/description.json          settings and the base model's identity (`components.registry.picture_model`)
checksums.json                      sha256 of every file above
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import mlflow.pyfunc
from mlflow.models import Model

from components import __version__
from components.config import Config
from components.errors import ArtifactError
from components.registry import checksums, model_signature, version_config

_SCRIPT = Path(__file__).with_name("model_script.py")
_MLMODEL = "MLmodel"


def write_package(config: Config, adapter: Path, run_id: str, base_identity: str, root: Path) -> str:
    """Write the files of a version into the new directory ``root``; returns the sha256 of its list of checksums.

    Args:
        adapter: the directory of an adapter that was trained with ``config``.
        run_id: the run that trained it.
        base_identity: of `config.model.base`.

    Raises:
        ArtifactError: ``adapter`` is no directory.
    """
    if not adapter.is_dir():
        raise ArtifactError(f"{adapter} is no adapter: give a directory that a training wrote")
    kept = version_config.pack(config)
    with tempfile.TemporaryDirectory() as scratch:
        description = Path(scratch) / "description.json"
        description.write_text(json.dumps({"config": kept, "base_identity": base_identity}, indent=1))
        mlflow.pyfunc.save_model(
            str(root),
            mlflow_model=Model(run_id=run_id),
            python_model=str(_SCRIPT),
            artifacts={"adapter": str(adapter.absolute()), "description": str(description)},
            signature=model_signature.signature(config.sampling),
            input_example=model_signature.example(),
            pip_requirements=[f"realcustom=={__version__}"],
            model_config=kept["model"],
        )
    return checksums.write_checksums(root)


def adapter_directory(root: Path) -> Path:
    """The adapter's directory in a version's files; older versions are the adapter itself."""
    if not (root / _MLMODEL).exists():
        return root
    flavor = Model.load(str(root)).flavors[mlflow.pyfunc.FLAVOR_NAME]
    return root / str(flavor["artifacts"]["adapter"]["path"])
