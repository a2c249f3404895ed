"""The judge of storybook images: a small ResNet with one classification head for each attribute.

It is of another family than every encoder of the model. Questions that do not apply to a picture (the
expression of a car) have no answer.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from components.world.storybook.attributes import ACTIONS, EXPRESSIONS, MODIFIERS, POSITIONS, SIZES, STYLES
from components.world.storybook.identities import COLORS, FEATURES, KINDS, PATTERNS
from components.world.storybook.places import PLACES
from components.world.storybook.scenes import Scene

#: Questions about a single subject and its picture, with their answers.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "place": tuple(PLACES),
    "style": STYLES,
    "position": tuple(POSITIONS),
    "size": tuple(SIZES),
    "action": ACTIONS,
    "expression": EXPRESSIONS,
    "modifier": MODIFIERS,
    "primary": tuple(COLORS),
    "secondary": tuple(COLORS),
    "pattern": PATTERNS,
    "feature": FEATURES,
}
#: Questions about the kinds on the left and right of a scene with two subjects.
SIDES = ("left_kind", "right_kind")


def answers(scene: Scene) -> dict[str, int]:
    """The true answer to every question, as an index; a question that does not apply has none."""
    true = {"place": scene.place, "style": scene.style}
    found: dict[str, int] = {}
    if len(scene.subjects) == 2:
        left, right = sorted(scene.subjects, key=lambda placed: placed.x)
        found = {side: KINDS.index(p.identity.kind) for side, p in zip(SIDES, (left, right), strict=True)}
    if len(scene.subjects) == 1:
        (placed,) = scene.subjects
        who = placed.identity
        true |= {"kind": who.kind, "primary": who.primary, "feature": who.feature, "pattern": who.pattern}
        true |= {"position": scene.position or "", "size": scene.size or ""}
        if who.pattern != "plain" or who.head_color == "secondary":
            true["secondary"] = who.secondary
        if who.is_character:
            true |= {"action": placed.act.action, "modifier": placed.act.modifier}
            if placed.act.action != "sleeping":
                true["expression"] = placed.act.expression
    return {question: QUESTIONS[question].index(answer) for question, answer in true.items()} | found


class Recognizer(nn.Module):
    """A backbone with one linear head for each question, on features of 4 x 4 cells."""

    def __init__(self, backbone: ResNetModel) -> None:
        super().__init__()
        self.backbone = backbone
        self.reduce = nn.Conv2d(backbone.config.hidden_sizes[-1], 48, 1)
        sizes = {name: len(options) for name, options in QUESTIONS.items()} | dict.fromkeys(SIDES, len(KINDS))
        width = backbone.config.hidden_sizes[-1] + 48 * 16
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """[b, 3, 128, 128] in [-1, 1] -> logits [b, answers] of every question."""
        grid = self.backbone(pixel_values=pixels).last_hidden_state
        cells = F.adaptive_avg_pool2d(self.reduce(grid), 4).flatten(1)
        features = torch.cat([grid.amax((2, 3)), cells], 1)
        return {name: head(features) for name, head in self.heads.items()}


def build_recognizer() -> Recognizer:
    """An untrained recogniser."""
    config = ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 128, 192],
        depths=[1, 1, 2, 1],
        layer_type="basic",
        downsample_in_first_stage=False,
    )
    return Recognizer(ResNetModel(config))


def save_recognizer(model: Recognizer, directory: Path) -> None:
    """Write all weights in half precision."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, directory / "recognizer.safetensors")


def load_recognizer(directory: Path) -> Recognizer:
    """Read what `save_recognizer` wrote."""
    model = build_recognizer()
    weights = load_file(directory / "recognizer.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return model.requires_grad_(False).eval()
