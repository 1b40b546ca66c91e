"""How often the style of grooves is recognised: of held-out windows, and of grooves that a model makes in the style.

python -m tests.experiments.style_recognition --shards shards/groove --model generation

A classifier learns the style of training windows from their hits. A row is a style: the share of its validation windows
that are recognised, the share of the model's grooves with that style, and of its grooves without a style. Styles with
few validation windows are left out. Figures are means over classifiers.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import musicvae
from musicvae.data.feel import primary_style
from musicvae.data.manifest import open_shards
from musicvae.data.shards import read_blocks
from musicvae.generation.generate import generate
from musicvae.generation.recipe import GenerationSettings, PriorSource
from musicvae.groove.groove import hits_from_tokens

SEEDS = (0, 1, 2)
CHANNELS, EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 48, 6, 128, 2e-3, 1e-2
LEAST_WINDOWS = 80
"""Of a style in the validation split."""


class StyleClassifier(nn.Module):
    """Convolutions over the steps, then the window."""

    def __init__(self, drums: int, styles: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            nn.Conv1d(drums, CHANNELS, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(CHANNELS, CHANNELS, 5, padding=2),
            nn.GELU(),
        )
        self.window = nn.Sequential(nn.Dropout(0.4), nn.Linear(2 * CHANNELS, styles))

    def forward(self, hits: Tensor) -> Tensor:
        """Logits of styles."""
        values = self.steps(hits)
        return self.window(torch.cat([values.mean(dim=2), values.amax(dim=2)], dim=1))


def learnt(hits: Tensor, styles: Tensor, count: int, seed: int) -> StyleClassifier:
    torch.manual_seed(seed)
    model = StyleClassifier(hits.shape[1], count)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(hits)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(hits[rows]), styles[rows]).backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shards", required=True)
    arguments.add_argument("--model", default="generation")
    arguments.add_argument("--grooves", type=int, default=1024)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    source = open_shards(options.shards)
    manifest, trained = source.manifest(), musicvae.load(options.model)
    assert trained.training is not None
    guide = trained.training.guide
    assert guide is not None

    def hits_of(tokens: np.ndarray) -> Tensor:
        hits = hits_from_tokens(tokens, manifest.drum_map.num_drums)
        return torch.from_numpy(np.ascontiguousarray(hits.astype(np.float32).transpose(0, 2, 1)))

    def windows(split: str) -> tuple[Tensor, Tensor]:
        blocks = list(read_blocks(source, manifest, manifest.split(split).shards))
        styles = [primary_style(meta.style) for block in blocks for meta in block.meta]
        number = torch.tensor([guide.names.index(style) if style in guide.names else -1 for style in styles])
        return hits_of(np.concatenate([block.tokens for block in blocks]))[number >= 0], number[number >= 0]

    def grooves(style: str | None) -> Tensor:
        wanted = None if style is None else guide.wanted(style)
        recipe = GenerationSettings(PriorSource(wanted), options.seed, precision=trained.precision)
        return hits_of(np.concatenate(list(generate(trained.model, recipe, options.grooves))))

    classifiers = [learnt(*windows("train"), len(guide.names), seed) for seed in SEEDS]
    held, styles = windows("validation")

    @torch.no_grad()
    def share(hits: Tensor, style: int) -> float:
        return float(np.mean([(model(hits).argmax(dim=1) == style).float().mean() for model in classifiers]))

    free = grooves(None)
    print("style       windows  recognised: validation  grooves  ratio  without a style")
    for style, name in enumerate(guide.names):
        count = int((styles == style).sum())
        if count >= LEAST_WINDOWS:
            of_people, of_model = share(held[styles == style], style), share(grooves(name), style)
            ratio = of_model / of_people if of_people else float("nan")
            print(f"{name:12}{count:7}{of_people:24.3f}{of_model:9.3f}{ratio:7.2f}{share(free, style):17.3f}")


if __name__ == "__main__":
    main()
