"""Attributes that captions can describe, besides kinds of subjects and places."""

from __future__ import annotations

#: Actions of characters. Kinds without limbs only stand.
ACTIONS = ("standing", "waving", "jumping", "sleeping", "holding a balloon")
#: Facial expressions; sleeping characters have closed eyes.
EXPRESSIONS = ("calm", "happy", "sad", "surprised", "angry")
#: Things that characters wear or carry, which are not part of their identity.
MODIFIERS = ("none", "glasses", "crown", "umbrella")
STYLES = ("flat", "ink", "pixel art", "lamplight")
#: Position -> horizontal centre of a single subject, as a share of the picture's width.
POSITIONS = {"left": 0.3, "middle": 0.5, "right": 0.7}
#: Size -> height of a single standing character, as a share of the picture's height.
SIZES = {"small": 0.5, "medium": 0.63, "big": 0.77}
