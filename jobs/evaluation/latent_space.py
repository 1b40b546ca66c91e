"""What moving through a latent space does to decoded grooves, in tables and figures."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from jobs.command.command_line import console
from jobs.evaluation.results import Candidate, check_same_format
from musicvae.data.manifest import open_shards
from musicvae.data.shards import read_tokens
from musicvae.data.windows import SplitTokens
from musicvae.durable import write_json
from musicvae.evaluation.scores import MatchCounts
from musicvae.generation.generate import generate
from musicvae.generation.recipe import GenerationSettings, VariationSource
from musicvae.pretrained.latent_space import (
    POINTS,
    POSITIONS,
    AttributeEffect,
    InterpolationEffect,
    attribute_effects,
    interpolation_effect,
    unevenness,
)
from musicvae.pretrained.load import load, load_run
from musicvae.pretrained.model import TrainedModel

DISTANCES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Of variations (`jobs.sample --like`)."""
LEGEND = f"""\
Spearman   correlation of position and attribute along a path of {len(POSITIONS)} positions, {POSITIONS[0]:g} to
           {POSITIONS[-1]:g} standard deviations: the mean over all starts, and the value that 90% of them exceed
gain       rise of the decoded groove's attribute for one standard deviation of the direction
jump       hit cells that change from one point of an interpolation of {POINTS} points to the next; "max/mean" is the
           largest jump of an interpolation by its mean jump (1: all are equal)
expected   jumps of the decoder's hit probabilities, given the grooves at both ends; decoded: of the decoded grooves"""


def measure(shards: str, run: Path | None, preset: str | None, *, split: str, starts: int, json: Path | None) -> None:
    """Measures attribute directions, interpolations and variations, prints the tables and writes the figures.

    Raises:
        ConfigError: no such model, shards or split, or they do not fit together.
        DataError: damaged shards, or a damaged model.
    """
    trained = load_run(run) if run is not None else load(preset or "reconstruction")
    source = open_shards(shards)
    manifest = source.manifest()
    name = str(run or preset or "reconstruction")
    check_same_format(Candidate(name, run or Path(name), trained), source, manifest)
    tokens = starting_windows(read_tokens(source, manifest, split), starts)
    codes = trained.encode(tokens)

    figures: dict[str, Any] = {"weights": trained.weights_hash, "shards": manifest.fingerprint, "split": split}
    figures["starts"] = len(codes)
    shown: list[Table | str] = []
    if trained.vectors is None:
        shown.append("this model has no attribute vectors; to add them: python -m jobs.export RUN OUT --shards SHARDS")
    else:
        effects = attribute_effects(trained, codes)
        shown.append(_attribute_table(effects, len(codes)))
        figures["attributes"] = {effect.name: _attribute_figures(effect) for effect in effects}
    effect = interpolation_effect(trained, codes[:-1], codes[1:])
    shown.append(_interpolation_table(effect))
    figures["interpolation"] = {
        kind: {"jumps": jumps.tolist(), "greatest_over_mean": unevenness(jumps).tolist()}
        for kind, jumps in (("expected", effect.expected), ("decoded", effect.decoded))
    }
    kept = {distance: likeness(trained, tokens, codes, distance) for distance in DISTANCES}
    shown += [_variation_table(kept), LEGEND]
    figures["variations"] = {str(distance): f1 for distance, f1 in kept.items()}
    if json is not None:  # first: whoever reads the tables may leave
        write_json(json, figures)
        shown.append(f"all figures: {json}")
    for part in shown:
        console.print(part, soft_wrap=isinstance(part, str))


def starting_windows(split: SplitTokens, count: int) -> np.ndarray:
    """Tokens of windows that take turns among the performances, int16 of shape (window, step); none is silent."""
    rows = np.flatnonzero(split.tokens.any(axis=1))
    performance = split.performance[rows]
    order = np.argsort(performance, kind="stable")
    firsts = np.searchsorted(performance[order], performance[order], side="left")
    turn = np.arange(len(order)) - firsts
    sizes = np.bincount(performance)[performance[order]]
    # Within a performance the middle comes first, then quarters and so on, as overlapping windows are alike.
    place = np.array([_van_der_corput(int(t)) for t in range(int(sizes.max()))])
    spread = firsts + (place[turn] * sizes).astype(np.int64)
    chosen = spread[np.lexsort((performance[order], turn))]
    return split.tokens[rows[order[list(dict.fromkeys(chosen.tolist()))[:count]]]]


def likeness(trained: TrainedModel, tokens: np.ndarray, codes: np.ndarray, distance: float) -> float:
    """Hit F1 of one variation of each window with the window itself."""
    recipe = GenerationSettings(VariationSource(codes, distance), seed=0, temperature=None)
    varied = np.concatenate(list(generate(trained.model, recipe, len(codes))))
    return MatchCounts.compare(tokens, varied, trained.drum_map.num_drums).hit_f1


def _van_der_corput(number: int) -> float:
    """1/2, 1/4, 3/4, 1/8, ...: each number falls into the widest gap left."""
    value, share, number = 0.0, 0.5, number + 1
    while number:
        value += share * (number & 1)
        number >>= 1
        share /= 2
    return value


def _attribute_table(effects: list[AttributeEffect], starts: int) -> Table:
    table = Table(title=f"attributes along their directions, {starts} starts", title_justify="left")
    for heading in ("attribute", "Spearman\nmean", "exceeded\nby 90%", "gain", "at -3", "at 0", "at +3"):
        table.add_column(heading, justify="left" if heading == "attribute" else "right")
    for effect in effects:
        rho = effect.correlation
        ends = [f"{effect.means[place]:+.2f}" for place in (0, len(POSITIONS) // 2, -1)]
        table.add_row(
            effect.name, f"{rho.mean():.3f}", f"{np.quantile(rho, 0.1):.3f}", f"{effect.gain.mean():.2f}", *ends
        )
    return table


def _interpolation_table(effect: InterpolationEffect) -> Table:
    table = Table(title=f"interpolations of {len(effect.expected)} pairs", title_justify="left")
    for heading in ("", "mean jump", "max/mean:\nmedian", "90% are\nbelow", "largest", "share\nup to 2"):
        table.add_column(heading, justify="right" if heading else "left")
    for kind, jumps in (("expected", effect.expected), ("decoded", effect.decoded)):
        ratio = unevenness(jumps)
        shown = [f"{value:.2f}" for value in (jumps.mean(), *np.quantile(ratio, (0.5, 0.9)), ratio.max())]
        table.add_row(kind, *shown, f"{(ratio <= 2).mean():.0%}")
    return table


def _variation_table(kept: dict[float, float]) -> Table:
    table = Table(title="hit F1 of variations and the original window", title_justify="left")
    table.add_column("distance")
    for distance in kept:
        table.add_column(f"{distance:g}", justify="right")
    table.add_row("hit F1", *(f"{f1:.3f}" for f1 in kept.values()))
    return table


def _attribute_figures(effect: AttributeEffect) -> dict[str, Any]:
    return {
        "spearman": float(effect.correlation.mean()),
        "spearman_tenth": float(np.quantile(effect.correlation, 0.1)),
        "gain": float(effect.gain.mean()),
        "means": effect.means.tolist(),
    }
