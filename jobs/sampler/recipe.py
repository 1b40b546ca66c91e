"""From options to what the model is asked for: the one place that knows the modes of `jobs.sample`.

A style of playing is one that the model carries, or one that the shards of its training have.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.sampler.inputs import constraints, windows_of
from jobs.sampler.options import DEFAULT_BARS, DEFAULT_STEPS, STYLE, SampleOptions, amounts, numbers, span
from musicvae.data.feel import GrooveFeel
from musicvae.data.style_feels import StyleFeel
from musicvae.data.windows import WindowMeta
from musicvae.errors import ConfigError
from musicvae.generation.constraints import looped
from musicvae.generation.recipe import FromPrior, Interpolation, LikeWindows, Moved, Recipe
from musicvae.generation.settings import DEFAULT_DISTANCE
from musicvae.groove.groove import DrumGroove
from musicvae.midi.groove_file import read_groove
from musicvae.model.token_choice import Temperature
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.training_windows import training_styles
from musicvae.randomness import Purpose, uniforms

SLOWEST, FASTEST = 4, 1000
"""Quarter notes per minute that --tempo takes."""


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """What items are, with all that the tokens do not say.

    Attributes:
        tempo: quarter notes per minute, between both of which each item has its own, or a style that it has it from;
            None is the source's, or the median of the style or of all training data.
        dry: one velocity for every hit, and every hit on the grid.
        style: what velocity and timing are those of; None is the mean of all training data.
        windows: what the windows of a `LikeWindows` recipe are, in its order; both ends of an `Interpolation`.
        moves: amounts of attributes that a `Moved` recipe's codes are moved by.
    """

    recipe: Recipe
    tempo: tuple[float, float] | StyleFeel | None = None
    dry: bool = False
    style: StyleFeel | None = None
    windows: tuple[WindowMeta, ...] = ()
    moves: tuple[tuple[str, float], ...] = ()

    @property
    def origin(self) -> FromPrior | LikeWindows | Interpolation:
        """Where codes come from before they are moved."""
        match self.recipe.origin:
            case Moved(origin=before):
                return before
            case origin:
                return origin

    def source(self, item: int) -> WindowMeta | None:
        """The window that an item is a variation of."""
        match self.origin:
            case LikeWindows() as like:
                return self.windows[like.window_of(item)]
            case _:
                return None

    def tempo_of(self, trained: TrainedModel, item: int) -> float:
        """Quarter notes per minute of an item."""
        if self.tempo is not None:
            share = float(uniforms(self.recipe.seed, Purpose.TEMPO, 0, item, 1, 1)[0, 0])
            if isinstance(self.tempo, StyleFeel):
                return self.tempo.tempo_at(share)
            least, most = self.tempo
            return least + (most - least) * share
        match self.origin:
            case FromPrior():
                return self.feel(trained).tempo
            case LikeWindows() as like:
                return self.windows[like.window_of(item)].tempo
            case Interpolation() as way:
                start, end = (window.tempo for window in self.windows)
                return start + (end - start) * way.share_of(item)

    def feel(self, trained: TrainedModel) -> GrooveFeel:
        """Velocity and timing of the items."""
        feel = trained.feel if self.style is None else self.style.applied(trained.feel)
        return feel.plain() if self.dry else feel

    def settings(self) -> dict[str, Any]:
        """All that decides an item, in plain values: outputs of different ones are never mixed."""
        match self.origin:
            case FromPrior():
                origin: dict[str, Any] = {"origin": "prior"}
            case LikeWindows(mu=mu, distance=distance):
                files = sorted({window.source for window in self.windows})
                origin = {"origin": "like", "distance": distance, "like": files, "codes": _hash(mu)}
            case Interpolation(start=start, end=end, points=points):
                ends = [window.source for window in self.windows]
                origin = {"origin": "interpolation", "ends": ends, "steps": points, "codes": _hash(start, end)}
        recipe, given, whole, style = self.recipe, self.recipe.given, self.recipe.whole, self.style
        tempo = STYLE if isinstance(self.tempo, StyleFeel) else self.tempo and list(self.tempo)
        return origin | {
            "move": dict(self.moves),
            "given": None if given is None else _hash(given.decided, given.hits),
            "whole": None if whole is None else [whole.must_have, whole.fewest, whole.most],
            "seed": recipe.seed,
            "temperature": list(recipe.temperature) if isinstance(recipe.temperature, tuple) else recipe.temperature,
            "top_p": recipe.top_p,
            "precision": recipe.precision,
            "tempo": tempo,
            "dry": self.dry,
            "style": style and f"{style.name} {_hash(style.velocity, style.offset, style.tempos)}",
        }


def default_model(options: SampleOptions) -> str:
    """The shipped model that is best at what is asked for."""
    near = options.like is not None or options.modes.start is not None
    return "reconstruction" if near else "generation"


def recipe_of(options: SampleOptions, trained: TrainedModel) -> SampleRecipe:
    """What the options ask of a model.

    Raises:
        ConfigError: a file that cannot be read, a model that has no latent space, attributes or such a style, or
            constraints that contradict each other.
        DataError: a file without drums that the model could take, or a damaged shard.
    """
    modes = options.modes
    kept = modes.continued or modes.source
    source = None if kept is None else read_groove(Path(kept), trained.drum_map, trained.grid, 0, "repeat")
    origin, windows = _origin(options, source, trained)
    given, whole = constraints(modes, source, trained)
    moves = amounts(modes.move)
    if moves:
        origin = Moved(origin, trained.attribute_vectors().shift(moves))
    recipe = Recipe(
        origin,
        options.seed,
        _temperature(options, trained),
        top_p=1.0 if modes.top_p is None else modes.top_p,
        given=given,
        whole=whole,
        precision=modes.decoding_precision(trained.precision),
    )
    style = None if options.feel is None else style_of(options.feel, trained, options.shards)
    tempo = style if modes.tempo_range == STYLE else _tempo(options)
    return SampleRecipe(recipe, tempo, options.dry, style, windows, tuple(sorted(moves.items())))


def _origin(
    options: SampleOptions, kept: DrumGroove | None, trained: TrainedModel
) -> tuple[FromPrior | LikeWindows | Interpolation, tuple[WindowMeta, ...]]:
    modes = options.modes
    distance = DEFAULT_DISTANCE if options.distance is None else options.distance
    if options.like is not None:
        windows = windows_of(Path(options.like), trained.grid, trained.drum_map)
        return LikeWindows(trained.encode(windows.tokens), distance), tuple(windows.meta)
    if modes.start is not None and modes.end is not None:
        ends = [read_groove(Path(end), trained.drum_map, trained.grid, 0, "repeat") for end in (modes.start, modes.end)]
        start, end = trained.encode(ends)
        return trained.way(start, end, modes.steps or DEFAULT_STEPS), tuple(map(_meta, ends))
    if kept is None:
        return FromPrior(), ()
    tokens = kept.tokens[None]
    if modes.continued is not None:
        tokens = looped(tokens, modes.bars or DEFAULT_BARS, trained.grid)
    return LikeWindows(trained.encode(tokens), distance), (_meta(kept),)


def _meta(groove: DrumGroove) -> WindowMeta:
    return WindowMeta(groove.source, 0, groove.tempo)


def _temperature(options: SampleOptions, trained: TrainedModel) -> Temperature:
    """What is asked for; else tokens are drawn, unless codes alone are to decide."""
    if options.modes.bar_temperature is None:
        by_code = options.like is not None or options.modes.start is not None
        return None if by_code and options.temperature is None else options.temperature or 1.0
    of_bars = tuple(numbers("--bar-temperature", options.modes.bar_temperature))
    if len(of_bars) != trained.grid.bars or min(of_bars) <= 0:
        raise ConfigError(
            f"--bar-temperature {options.modes.bar_temperature} cannot be used",
            expected=f"{trained.grid.bars} numbers above 0, one a bar, with commas between them",
            found=repr(options.modes.bar_temperature),
            do="correct the command line",
        )
    return of_bars


def _tempo(options: SampleOptions) -> tuple[float, float] | None:
    if options.modes.tempo_range is None:
        return None if options.tempo is None else (options.tempo, options.tempo)
    least, most = span("--tempo-range", options.modes.tempo_range)
    if not SLOWEST <= least <= most <= FASTEST:
        raise ConfigError(
            f"--tempo-range {options.modes.tempo_range} cannot be used",
            expected=f"LEAST:MOST within {SLOWEST} to {FASTEST} quarter notes a minute, or {STYLE} beside --feel",
            found=repr(options.modes.tempo_range),
            do="correct the command line",
        )
    return least, most


def _hash(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:12]


def style_of(name: str, trained: TrainedModel, shards: str | None) -> StyleFeel:
    """A style of the training data.

    Args:
        shards: folder or URL of the training windows, read where the model carries no styles.

    Raises:
        ConfigError: no such style, styles of which nothing is known, or other shards.
        DataError: a shard is damaged.
    """
    styles = None if trained.training is None else trained.training.styles
    if styles is None and shards is not None:
        styles = training_styles(trained, shards)
    if styles is None:
        raise ConfigError(
            f"--feel {name} cannot be used: nothing is known of the styles that the model was trained on",
            expected="an export with them, or --shards",
            found="no --shards, and " + ("no training data" if trained.training is None else "none") + " in the model",
            likely="a run folder, an export without --shards, or one of an earlier version",
            do="add --shards, or once: python -m jobs.export renew EXPORT --shards SHARDS",
        )
    return styles.of(name)
