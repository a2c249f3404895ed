"""The script that MLflow stores with a version and runs to load it, in place of a pickled object.

Every registered version contains a copy of this file. The import below is therefore a stable public entry:
`components.registry.picture_model` must always export `PictureModel`. Nothing imports this module.
"""

from __future__ import annotations

from mlflow.models import set_model

from components.registry.picture_model import PictureModel

set_model(PictureModel())
