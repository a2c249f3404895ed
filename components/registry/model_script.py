"""What MLflow keeps with a version and runs to load it. Nothing imports it: it is code in place of a pickled object.

Every registered version holds a copy of this file, and no release can change those. So the import below is a public
entry that stays: whatever moves, `components.registry.picture_model` goes on to export `PictureModel`.
"""

from __future__ import annotations

from mlflow.models import set_model

from components.registry.picture_model import PictureModel

set_model(PictureModel())
