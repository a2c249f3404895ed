"""The judge of storybook pictures: a small ResNet that answers one question an attribute.

It shares neither seed nor pictures nor family with what conditions a picture. Questions that do not apply to a
picture (the expression of a car) are left out of its training and of its scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from components.precision import autocast
from components.pretraining.loop import Schedule
from components.pretraining.storybook.loop import fit, training_device
from components.pretraining.storybook.normalization import use_channels_last, use_plain_layout
from components.pretraining.storybook.pictures import Pictures
from components.pretraining.vae import to_pixels
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
#: Questions about the kinds that stand left and right of the middle where there are two.
SIDES = ("left_kind", "right_kind")
#: An attribute read right less often than this on real pictures is no bar for drawn ones.
RELIABLE = 0.97
_OPEN = -100


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
    """A backbone and one linear head a question, on features whose 4 x 4 cells stay apart."""

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


def train_recognizer(
    pictures: Pictures, schedule: Schedule, checkpoint: Path, deadline: float | None = None
) -> Recognizer | None:
    """Fit the recogniser; None where ``deadline`` came first."""
    torch.manual_seed(schedule.seed)
    device = training_device()
    model = use_channels_last(build_recognizer().to(device))
    labels = _labels(pictures.scenes, list(model.heads))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pictures), (schedule.batch_size,), generator=generator)
        pixels = worsen(to_pixels(pictures.pixels[rows.numpy()]), generator)
        with autocast(device):
            logits = model(pixels.to(device, memory_format=torch.channels_last))
        terms = [
            F.cross_entropy(answer.float(), labels[name][rows].to(device), ignore_index=_OPEN, reduction="sum")
            for name, answer in logits.items()
        ]
        return torch.stack(terms).sum() / len(rows)

    trained = fit(model, loss_of, schedule, checkpoint, deadline)
    if trained.step < schedule.steps:
        return None
    assert isinstance(trained.averaged, Recognizer)
    return use_plain_layout(trained.averaged.cpu())


@torch.no_grad()
def accuracies(model: Recognizer, pictures: Pictures, batch: int = 64) -> dict[str, float]:
    """The share of right answers on real pictures, over those to which a question applies."""
    labels = _labels(pictures.scenes, list(model.heads))
    read: dict[str, list[Tensor]] = {name: [] for name in labels}
    for start in range(0, len(pictures), batch):
        for name, logits in model(to_pixels(pictures.pixels[start : start + batch])).items():
            read[name].append(logits.argmax(1))
    right = {name: torch.cat(parts) == labels[name] for name, parts in read.items()}
    return {name: float(r[labels[name] != _OPEN].float().mean()) for name, r in right.items()}


def reliable(found: dict[str, float]) -> list[str]:
    """The questions that may serve as bars."""
    return [name for name, share in found.items() if share >= RELIABLE]


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


def worsen(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blur a third of the pictures and add noise to another third, as drawn pictures can be."""
    third = len(pixels) // 3
    blurred = F.interpolate(F.avg_pool2d(pixels[:third], 2), scale_factor=2, mode="bilinear", align_corners=False)
    noisy = pixels[third : 2 * third]
    noisy = noisy + 0.1 * torch.randn(noisy.shape, generator=generator)
    return torch.cat([blurred, noisy, pixels[2 * third :]])


def _labels(scenes: list[Scene], names: list[str]) -> dict[str, Tensor]:
    found = [answers(scene) for scene in scenes]
    return {name: torch.from_numpy(np.array([f.get(name, _OPEN) for f in found])) for name in names}
