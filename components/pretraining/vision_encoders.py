"""Training of the miniature's vision encoders: an image-text model and an identity model.

The identity model of another seed and width is an evaluation encoder, which is not part of the generating model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer, SiglipModel

from components.judges.identity_model import IdentityModel, build_identity
from components.model.miniature import build_siglip
from components.precision import autocast
from components.pretraining.corpus import SceneFacts, Scenes, Views
from components.pretraining.loop import Schedule, fit
from components.pretraining.vae import to_pixels

#: Longest caption of the toy world, start and end tokens included.
TEXT_TOKENS = 12


def train_siglip(
    scenes: Scenes, views: Views, tokenizer: CLIPTokenizer, width: int, schedule: Schedule, checkpoint: Path
) -> SiglipModel:
    """SigLIP's sigmoid loss over a batch of scenes and cut-outs; a pair is positive wherever the caption is *true*.

    Captions of cut-outs name no place, so pairs with scenes of their kind are ignored. A softmax term is added for
    small batches: the sigmoid loss alone learned places in 300 steps, but not kinds.
    """
    torch.manual_seed(schedule.seed)
    model = build_siglip(tokenizer, width)
    model.set_attn_implementation("eager")
    cutouts = schedule.batch_size // 3

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(scenes.facts), (schedule.batch_size - cutouts,), generator=generator).tolist()
        alone = torch.randint(len(views.kinds), (cutouts,), generator=generator).tolist()
        pixels = to_pixels(np.concatenate([scenes.pictures[rows], views.pictures[alone, 0]]))
        facts = [scenes.facts[i] for i in rows] + [
            SceneFacts(f"a {views.kinds[i]}", views.kinds[i], "nowhere", None, "", 1) for i in alone
        ]
        with autocast(torch.device("cpu")):
            image, text = _embed(model, tokenizer, pixels, [f.caption for f in facts])
        similar = text.float() @ image.float().T * model.logit_scale.exp()
        signs = torch.tensor([[_sign(said, of) for of in facts] for said in facts])
        sigmoid = -F.logsigmoid(signs * (similar + model.logit_bias)).sum() / len(facts)
        return sigmoid + (_choose(similar, signs) + _choose(similar.T, signs.T)) / 2

    with torch.no_grad():
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-5.0)
    trained = fit(model, loss_of, schedule, checkpoint)
    assert isinstance(trained, SiglipModel)
    return trained


def _embed(model: SiglipModel, tokenizer: CLIPTokenizer, pixels: Tensor, texts: list[str]) -> tuple[Tensor, Tensor]:
    image = model.vision_model(pixel_values=pixels).pooler_output
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=TEXT_TOKENS, return_tensors="pt").input_ids
    text = model.text_model(input_ids=ids).pooler_output
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def _choose(similar: Tensor, signs: Tensor) -> Tensor:
    """Cross-entropy of the sum of each row's true columns against its true and false ones."""
    decided = similar.masked_fill(signs == 0, -torch.inf)
    return (decided.logsumexp(1) - similar.masked_fill(signs <= 0, -torch.inf).logsumexp(1)).mean()


def _sign(said: SceneFacts, of: SceneFacts) -> float:
    """1 for a true pair, -1 for a false one, 0 for an ignored one."""
    if said.place == "nowhere" and of.place != "nowhere" and said.kind == of.kind:
        return 0.0
    return 1.0 if _is_true(said, of) else -1.0


def _is_true(said: SceneFacts, of: SceneFacts) -> bool:
    """Whether the caption of ``said`` is true for the image of ``of``."""
    if said.caption == of.caption:
        return True
    if said.subjects > 1 or of.subjects > 1 or said.place != of.place or said.kind != of.kind:
        return False
    position = any(word in said.caption for word in (" left ", " right ", " middle "))
    if position and said.position != of.position:
        return False
    color = said.caption.split()[1]
    return color == said.kind or color == of.identity.split("-")[1]


def train_identity(scenes: Scenes, views: Views, width: int, schedule: Schedule, checkpoint: Path) -> IdentityModel:
    """Contrastive multi-view training on cut-outs, with the ground-truth masks of a few scenes in the same batch."""
    torch.manual_seed(schedule.seed)
    model = build_identity(width)
    model.backbone.set_attn_implementation("eager")
    single = [i for i, f in enumerate(scenes.facts) if f.subjects == 1]

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(views.kinds), (schedule.batch_size,), generator=generator).tolist()
        first, second = torch.randperm(views.pictures.shape[1], generator=generator)[:2].tolist()
        whole = [
            single[i] for i in torch.randint(len(single), (schedule.batch_size // 2,), generator=generator).tolist()
        ]
        pixels = to_pixels(
            np.concatenate([views.pictures[rows, first], views.pictures[rows, second], scenes.pictures[whole]])
        )
        with autocast(torch.device("cpu")):
            vectors, masks = model(pixels)
        count = len(rows)
        logits = vectors[:count].float() @ vectors[count : 2 * count].float().T / 0.1
        target = torch.arange(count)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        truth = torch.from_numpy(scenes.masks[whole]).float()
        return contrast + F.binary_cross_entropy_with_logits(masks[2 * count :].float(), truth)

    trained = fit(model, loss_of, schedule, checkpoint)
    assert isinstance(trained, IdentityModel)
    return trained
