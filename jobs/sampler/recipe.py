"""From options to what the model is asked for: the one place that knows the modes of `jobs.sample`.

A style of playing is one that the model carries, or one that the shards of its training have.
"""

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jobs.command.command_line import option_error
from jobs.sampler.inputs import amounts, constraints, files_of, numbers, player_of, span, window_of, windows_of
from jobs.sampler.settings import DEFAULT_BARS, DEFAULT_STEPS, STYLE, SampleSettings
from musicvae.data.feel import GrooveFeel, StyleFeel
from musicvae.data.windows import WindowBlock, WindowMeta
from musicvae.errors import ConfigError
from musicvae.generation.constraints import looped
from musicvae.generation.interpolation import square
from musicvae.generation.recipe import (
    BestOf,
    GenerationSettings,
    Interpolation,
    Moved,
    PriorSource,
    Square,
    VariationSource,
)
from musicvae.generation.settings import BATCH, DEFAULT_AMOUNT, DEFAULT_DISTANCE, PLAIN, PLAYED
from musicvae.generation.style_guide import WantedStyle
from musicvae.groove.grid import GridSpec
from musicvae.groove.played import PlayedHits
from musicvae.midi.groove_file import WholeFile
from musicvae.model.token_choice import Temperature
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.performer import performer_for, shipped_performer
from musicvae.pretrained.training_record import wanted_style
from musicvae.pretrained.training_windows import training_guide, training_styles
from musicvae.randomness import Purpose, uniforms

SLOWEST, FASTEST = 4, 1000
"""Quarter notes per minute that --tempo takes."""
PLAYING, PERFORMER, BEST_OF = "playing", "performer", "best_of"
"""Settings that a sampling has if it has a `given`, a `performer`, grooves that are chosen from several; one that an
earlier version began has none of them."""


@dataclass(frozen=True, slots=True)
class Humanizing:
    """Files that take turns, each played in as many takes as are wanted.

    Attributes:
        timing, velocity: amounts, from 0 (as in the file) to 1.
        around: whether the accents and the timing of the files are kept, and played around.
    """

    files: tuple[WholeFile, ...]
    timing: float
    velocity: float
    around: bool

    def take(self, item: int, seed: int, manner: Float32[np.ndarray, " figure"] | None) -> bytes:
        """The file of an item."""
        take, number = divmod(item, len(self.files))
        how = {"timing": self.timing, "velocity": self.velocity, "around": self.around, "like_player": manner}
        return shipped_performer().humanize_file(self.files[number], seed=(seed + take) % 2**64, **how)

    def settings(self) -> dict[str, Any]:
        """All that decides an item, but for the player."""
        data = hashlib.sha256(b"".join(file.data for file in self.files)).hexdigest()[:12]
        names = [file.name for file in self.files]
        around = {"around": True} if self.around else {}
        return {"origin": f"humanize {data}", "like": names, "timing": self.timing, "velocity": self.velocity, **around}


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """What items are, with all that the tokens do not say.

    Attributes:
        tempo: quarter notes per minute, between both of which each item has its own, or a style that it has it from;
            None is the source's, or the median of the style or of all training data.
        dry: one velocity for every hit, and every hit on the grid.
        style: what velocity and timing of new hits are those of; None is the mean of all training data.
        windows: of a `VariationSource`, in its order; the ends of an `Interpolation` or a
            `Square`; None where there are none.
        given: what was played in these windows and stays where an item keeps a hit; None plays all hits as new ones.
        moves: amounts of attributes that a `Moved` recipe's codes are moved by.
        performer: the performance model that plays new hits, by the hash of its weights; None where none does.
        player: the manner that it plays with; None is that of some training window for each item.
        centred: whether new hits are played without the latency of the training data; None: where a performer plays.
        humanizing: the files that items are takes of; `windows` has the first window of each.
    """

    recipe: GenerationSettings
    tempo: tuple[float, float] | StyleFeel | None = None
    dry: bool = False
    style: StyleFeel | None = None
    windows: WindowBlock | None = None
    given: WindowBlock | None = None
    moves: tuple[tuple[str, float], ...] = ()
    performer: str | None = None
    player: tuple[float, ...] | None = None
    humanizing: Humanizing | None = None
    centred: bool | None = None

    @property
    def plays_together(self) -> bool:
        """Whether how a groove is played depends on the others of its inner batch: together they meet a manner."""
        return self.player is not None

    @property
    def is_centred(self) -> bool:
        """Whether new hits lie around the grid."""
        return self.performer is not None if self.centred is None else self.centred

    @property
    def origin(self) -> PriorSource | VariationSource | Interpolation | Square:
        """Where codes come from before they are moved."""
        match self.recipe.origin:
            case Moved(origin=before):
                return before
            case origin:
                return origin

    def sources(self, item: int) -> tuple[int, ...]:
        """The rows of `windows` that an item is made from."""
        if self.humanizing is not None:
            return (item % len(self.humanizing.files),)
        match self.origin:
            case PriorSource():
                return ()
            case VariationSource() as like:
                return (like.window_of(item),)
            case Interpolation():
                return (0, 1)
            case Square():
                return (0, 1, 2, 3)

    def source(self, item: int) -> WindowMeta | None:
        """The window that an item is a variation or a take of."""
        match self.sources(item), self.windows:
            case (row,), WindowBlock(meta=meta):
                return meta[row]
            case _:
                return None

    def tempo_of(self, trained: TrainedModel, item: int) -> float:
        """Quarter notes per minute of an item."""
        if self.humanizing is None and self.tempo is not None:
            share = float(uniforms(self.recipe.seed, Purpose.TEMPO, 0, item, 1, 1)[0, 0])
            if isinstance(self.tempo, StyleFeel):
                return self.tempo.tempo_at(share)
            least, most = self.tempo
            return least + (most - least) * share
        tempos = [] if self.windows is None else [self.windows.meta[row].tempo for row in self.sources(item)]
        match self.origin:
            case (Interpolation() | Square()) as path:
                return path.between(item, *tempos)
            case _:
                return tempos[0] if tempos else self.feel(trained).tempo

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows and columns of an interpolation; None of other modes."""
        return self.origin.shape if isinstance(self.origin, Interpolation | Square) else None

    def place(self, item: int) -> int | None:
        """The point of an interpolation that an item is, row by row; None of other modes."""
        return item % self.origin.points if isinstance(self.origin, Interpolation | Square) else None

    @property
    def manner(self) -> Float32[np.ndarray, " figure"] | None:
        """The figures of `player`, or else those of the style of new grooves."""
        if self.player is not None:
            return np.array(self.player, dtype=np.float32)
        return self.origin.style.manner if isinstance(self.origin, PriorSource) and self.origin.style else None

    def humanized(self, item: int) -> bytes:
        """The file of an item that is a take of one."""
        assert self.humanizing is not None
        return self.humanizing.take(item, self.recipe.seed, self.manner)

    def kept(self, items: Sequence[int]) -> PlayedHits | None:
        """What each item keeps as it was played, wherever it has these hits; None if nothing is given."""
        if self.given is None:
            return None
        match self.origin:
            case PriorSource():
                return None
            case VariationSource() as like:
                return self.given.take(np.array([like.window_of(item) for item in items])).played()
            case (Interpolation() | Square()) as path:
                ends = np.array([path.ends_of(item) for item in items])
                return reduce(PlayedHits.otherwise, (self.given.take(rows).played() for rows in ends.T))

    def feel(self, trained: TrainedModel) -> GrooveFeel:
        """Velocity and timing of new hits."""
        feel = trained.feel if self.style is None else self.style.applied(trained.feel)
        feel = feel.centred() if self.is_centred else feel
        return feel.plain() if self.dry else feel

    def settings(self) -> dict[str, Any]:
        """All that decides an item, in plain values: outputs of different ones are never mixed."""
        metas = () if self.windows is None else self.windows.meta
        match self.origin:
            case PriorSource(style=wanted):
                origin: dict[str, Any] = {"origin": "prior"}
                if wanted is not None:
                    hashed = _hash(*wanted.guide.tensors().values())
                    origin["styles"] = {"shares": dict(wanted.shares), "tempo": wanted.tempo, "guide": hashed}
            case VariationSource(mu=mu, distance=distance):
                files = sorted({window.source for window in metas})
                origin = {"origin": "like", "distance": distance, "like": files, "codes": _hash(mu)}
            case Interpolation(start=start, end=end, points=points):
                ends = [window.source for window in metas]
                origin = {"origin": "interpolation", "ends": ends, "steps": points, "codes": _hash(start, end)}
            case Square(columns=columns) as path:
                ends, codes = [window.source for window in metas], [_hash(c.start, c.end) for c in columns]
                origin = {"origin": "interpolation", "ends": ends, "steps": list(path.shape), "codes": codes}
        origin = origin if self.humanizing is None else self.humanizing.settings()
        recipe, hit_mask, constraint, style = self.recipe, self.recipe.hit_mask, self.recipe.constraint, self.style
        tempo = STYLE if isinstance(self.tempo, StyleFeel) else self.tempo and list(self.tempo)
        given = self.given
        playing = {} if given is None else {PLAYING: f"kept {_hash(given.velocity, given.offset)}"}
        return origin | {
            "move": dict(self.moves),
            "given": None if hit_mask is None else _hash(hit_mask.decided, hit_mask.hits),
            "whole": None if constraint is None else [constraint.must_have, constraint.fewest, constraint.most],
            "seed": recipe.seed,
            "temperature": list(recipe.temperature) if isinstance(recipe.temperature, tuple) else recipe.temperature,
            "top_p": recipe.top_p,
            "precision": recipe.precision,
            "tempo": tempo,
            "dry": self.dry,
            "style": style and f"{style.name} {_hash(style.velocity, style.offset, style.tempos)}",
            **playing,
            **({} if self.performer is None else {PERFORMER: f"{self.performer}, {BATCH} together"}),
            **({} if self.player is None else {"player": [None if f != f else round(f, 4) for f in self.player]}),
            **({} if self.centred is None else {"centred": self.centred}),
            **({} if recipe.best_of is None else {BEST_OF: recipe.best_of.candidates}),
        }

    def older(self, recorded: Container[str]) -> "SampleRecipe":
        """The same as versions began it that had fewer settings.

        Args:
            recorded: the settings that it has on record.
        """
        before = self if PERFORMER in recorded else replace(self, performer=None, player=None)
        if BEST_OF not in recorded:
            before = replace(before, recipe=replace(before.recipe, best_of=None))
        return before if PLAYING in recorded else replace(before, given=None)


def default_model(options: SampleSettings) -> str:
    """The shipped model that is best at what is asked for."""
    near = options.like is not None or options.interpolate is not None
    return "reconstruction" if near else "generation"


def resolve(options: SampleSettings, trained: TrainedModel) -> SampleRecipe:
    """What the options ask of a model.

    Raises:
        ConfigError: a file that cannot be read, a model that has no latent space, attributes or such a style, or
            constraints that contradict each other.
        DataError: a file without drums that the model could take, or a damaged shard.
    """
    if options.humanize is not None:
        return _humanizing(options, trained)
    kept = options.continued or options.source
    read = (trained.grid, trained.drum_map, options.reading_settings)
    source = None if kept is None else window_of(Path(kept), *read, options.first_bars[0])
    wanted = _wanted(options, trained)
    origin, windows, given = _origin(options, source, trained, wanted)
    hit_mask, constraint = constraints(options, source, trained)
    moves = amounts(options.move)
    if moves:
        origin = Moved(origin, trained.attribute_vectors().shift(moves))
    recipe = GenerationSettings(
        origin,
        options.seed,
        _temperature(options, trained),
        top_p=1.0 if options.top_p is None else options.top_p,
        hit_mask=hit_mask,
        constraint=constraint,
        precision=options.precision or trained.precision,  # type: ignore[arg-type]
        best_of=BestOf.several(options.candidates, trained.grid, trained.drum_map.classes),
    )
    plain = options.feel == PLAIN
    moved = tuple(sorted(moves.items()))
    needed = options.feel if options.like_player is None else PLAYED
    performer = performer_for(needed, trained.grid, trained.drum_map)
    weights = None if performer is None else performer.weights_hash
    player, given, feel = _player(options, trained), None if plain else given, options.feel_style
    if wanted is not None and performer is None and options.feel is None:
        feel = wanted.main
    style = None if feel is None else style_of(feel, trained, options.shards)
    tempo = style if options.tempo_range == STYLE else _tempo(options, wanted)
    return SampleRecipe(recipe, tempo, plain, style, windows, given, moved, weights, player, centred=options.centred)


def _humanizing(options: SampleSettings, trained: TrainedModel) -> SampleRecipe:
    files = files_of(Path(options.humanize or ""), options.reading)
    performer = performer_for(PLAYED, trained.grid, trained.drum_map)
    timing, velocity = (DEFAULT_AMOUNT if a is None else a for a in (options.timing, options.velocity))
    windows = WindowBlock.joined([file.first_window() for file in files])
    return SampleRecipe(
        GenerationSettings(PriorSource(), options.seed),
        windows=windows,
        performer=None if performer is None else performer.weights_hash,
        player=_player(options, trained),
        humanizing=Humanizing(files, timing, velocity, options.around),
    )


def _player(options: SampleSettings, trained: TrainedModel) -> tuple[float, ...] | None:
    if options.like_player is None:
        return None
    return player_of(Path(options.like_player), trained.grid, trained.drum_map, options.reading_settings)


def _origin(
    options: SampleSettings, kept: WindowBlock | None, trained: TrainedModel, wanted: WantedStyle | None
) -> tuple[PriorSource | VariationSource | Interpolation | Square, WindowBlock | None, WindowBlock | None]:
    """Where codes come from, the windows that this needs, and what was played in them and may be kept."""
    distance = DEFAULT_DISTANCE if options.distance is None else options.distance
    read = (trained.grid, trained.drum_map, options.reading_settings)
    if options.like is not None:
        windows = windows_of(Path(options.like), *read, options.first_bars[0])
        return VariationSource(trained.encode(windows.tokens), distance), windows, windows
    if options.interpolate is not None:
        files = zip(options.interpolate, options.first_bars, strict=True)
        ends = WindowBlock.joined([window_of(Path(file), *read, bar) for file, bar in files])
        codes, points = trained.encode(ends.tokens), options.steps or DEFAULT_STEPS
        between = square(trained.model, codes, points) if len(codes) > 2 else trained.path(*codes, points=points)
        return between, ends, ends
    if kept is None:
        return PriorSource(wanted), None, None
    tokens, given = kept.tokens, kept
    if options.continued is not None:
        bars = options.bars or DEFAULT_BARS
        tokens, given = looped(tokens, bars, trained.grid), _first_bars(kept, bars, trained.grid)
    return VariationSource(trained.encode(tokens), distance), kept, given


def _first_bars(windows: WindowBlock, bars: int, grid: GridSpec) -> WindowBlock:
    """Windows of whose later bars it is not known how they were played."""
    early = (np.arange(grid.num_steps) < bars * grid.steps_per_bar)[:, None]
    return replace(windows, velocity=windows.velocity * early, offset=windows.offset * early)


def _temperature(options: SampleSettings, trained: TrainedModel) -> Temperature:
    """What is asked for; else tokens are drawn, unless codes alone are to decide."""
    if options.bar_temperature is None:
        by_code = options.like is not None or options.interpolate is not None
        return None if by_code and options.temperature is None else options.temperature or 1.0
    of_bars = tuple(numbers("--bar-temperature", options.bar_temperature))
    if len(of_bars) != trained.grid.bars or min(of_bars) <= 0:
        expected = f"{trained.grid.bars} numbers above 0, one for each bar, separated by commas"
        raise option_error("--bar-temperature", options.bar_temperature, expected)
    return of_bars


def _wanted(options: SampleSettings, trained: TrainedModel) -> WantedStyle | None:
    if options.style is None:
        return None
    guide = trained.training and trained.training.guide
    if guide is None and options.shards is not None:
        guide = training_guide(trained, options.shards)
    return wanted_style(guide, options.style, options.tempo)


def _tempo(options: SampleSettings, wanted: WantedStyle | None) -> tuple[float, float] | None:
    if options.tempo_range is None:
        tempo = wanted.median_tempo if wanted else options.tempo
        return None if tempo is None else (tempo, tempo)
    least, most = span("--tempo-range", options.tempo_range)
    if not SLOWEST <= least <= most <= FASTEST:
        expected = f"LEAST:MOST within {SLOWEST} to {FASTEST} quarter notes a minute, or {STYLE} with --feel"
        raise option_error("--tempo-range", options.tempo_range, expected)
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
            f"--feel {name} cannot be used: the styles of the training data are not known",
            expected="an export with styles, or --shards",
            found="no --shards, and " + ("no training data" if trained.training is None else "none") + " in the model",
            likely="a run folder, an export without --shards, or an export of an earlier version",
            do="add --shards, or run once: python -m jobs.export renew EXPORT --shards SHARDS",
        )
    return styles.of(name)
