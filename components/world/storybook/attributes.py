"""What a caption can tell of a picture beside its kinds of subjects and its place."""

from __future__ import annotations

#: What characters do. Kinds without limbs only stand.
ACTIONS = ("standing", "waving", "jumping", "sleeping", "holding a balloon")
#: How characters look; the eyes of a sleeping one are closed.
EXPRESSIONS = ("calm", "happy", "sad", "surprised", "angry")
#: What characters wear or carry although it is no part of their identity.
MODIFIERS = ("none", "glasses", "crown", "umbrella")
STYLES = ("flat", "ink", "pixel art", "lamplight")
#: Position -> horizontal centre of a single subject, as a share of the picture's width.
POSITIONS = {"left": 0.3, "middle": 0.5, "right": 0.7}
#: Size -> height of a single standing character, as a share of the picture's height.
SIZES = {"small": 0.5, "medium": 0.63, "big": 0.77}
