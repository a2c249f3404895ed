"""What MLflow keeps with a version and runs to load it. Nothing imports it: it is code in place of a pickled object."""

from __future__ import annotations

from mlflow.models import set_model

from components.registry.picture_model import PictureModel

set_model(PictureModel())
