"""A trained model: what a musician or a job does with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int16

from musicvae.data.feel import GrooveFeel, StyleFeels
from musicvae.errors import ConfigError
from musicvae.generation.attribute_vectors import AttributeVectors
from musicvae.generation.constraints import first_bars, looped
from musicvae.generation.generate import WHOLE, decode_codes, encode_windows, generate_batch, num_batches
from musicvae.generation.interpolation import interpolation
from musicvae.generation.latent import Neighbour, nearest_codes
from musicvae.generation.recipe import BestOf, GenerationSettings, Interpolation, PriorSource, VariationSource
from musicvae.generation.settings import BATCH, DEFAULT_AMOUNT, DEFAULT_BEST_OF, DEFAULT_DISTANCE, MEAN, PLAIN, PLAYED
from musicvae.generation.style_guide import WantedStyle
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.features import attribute_names, measure_attributes
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.groove.played import PlayedHits
from musicvae.model.model import MusicVAE
from musicvae.model.precision import fastest_precision
from musicvae.model.settings import DecodingPrecision, ModelSettings
from musicvae.pretrained.training_record import TrainingRecord, wanted_style

if TYPE_CHECKING:
    from musicvae.pretrained.performer import Playing

Grooves: TypeAlias = DrumGroove | Sequence[DrumGroove] | Int[np.ndarray, "window step"]
"""One groove, several, or the tokens of several."""
Place: TypeAlias = DrumGroove | Float[np.ndarray, " latent"]
"""Where to start in the latent space: a groove, which stands for its code, or a code."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A model with trained weights, and all that generating and evaluating need beside it.

    Codes are posterior means: float32 of shape (latent,), or (groove, latent) for several. Everything that decodes a
    code plays the likeliest token at every step, so that a groove is a function of its code; `sample` draws.

    Codes do not hold velocity and timing. What is made from a groove keeps them exactly at each (step, drum) that the
    groove hits too. All other hits are played by the `feel`: "played", by the performance model that comes with the
    package; "mean", the training data's mean for the drum and the place in the bar; "plain", one velocity and every hit
    on the grid, kept ones too; or a style of the training data. If none is given, they are played if the performance
    model fits this model's grid and drums, else by the mean. `decode` always plays by the mean. `like_player` is a
    performance whose level, lean, swing and spread played hits have.

    Attributes:
        model: with its best weights, in evaluation mode, on the CPU, without gradients.
        feel: mean velocity and timing of the training data.
        step: the step that the weights are from.
        fingerprint: of the shards that it was trained on.
        weights_hash: short sha256 of the weights (`musicvae.training.best_weights`).
        vectors: directions of attributes in the latent space, where the export measured them.
        training: what is known of the training windows, where the export measured them.
        precision: in which grooves are decoded (`musicvae.model.precision`); the fastest on this machine.
    """

    model: MusicVAE
    settings: ModelSettings
    grid: GridSpec
    drum_map: DrumMap
    feel: GrooveFeel
    step: int
    fingerprint: str
    weights_hash: str
    vectors: AttributeVectors | None = None
    training: TrainingRecord | None = None
    precision: DecodingPrecision = field(default_factory=fastest_precision)

    @property
    def latent(self) -> int:
        """Dimensions of a code; 0 for a model without a latent space."""
        return self.model.latent

    def sample(
        self,
        count: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        tempo: float | None = None,
        style: str | Mapping[str, float] | None = None,
        best_of: int = DEFAULT_BEST_OF,
        feel: str | None = None,
        like_player: DrumGroove | None = None,
    ) -> list[DrumGroove]:
        """New grooves, drawn from the prior; groove i of a seed is the same for every count.

        Args:
            temperature: below 1 likelier grooves, above 1 wilder ones.
            best_of: grooves made for each, of which the one of the highest `musicvae.groove.features.quality` is kept.
            tempo: quarter notes per minute, which hits of a style suit; else the median of style or training data.
            style: of the hits and, unless a feel is given, of their playing: `"funk"` or `{"funk": 0.7, "jazz": 0.3}`.

        Raises:
            ConfigError: a style or a feel that there is not, or a player that does not fit the performance model.
            ValueError: a negative count or seed, no candidate, or a temperature that is not positive.
        """
        wanted = None if style is None else wanted_style(self.training and self.training.guide, style, tempo)
        playing, tempo = self._playing(feel, like_player, wanted), wanted.median_tempo if wanted else tempo
        chosen = BestOf.several(best_of, self.grid, self.drum_map.classes)
        recipe = GenerationSettings(PriorSource(wanted), seed, temperature, best_of=chosen)
        return self._made(recipe, count, playing, tempo=tempo, source="sample")

    def encode(self, grooves: Grooves) -> Float32[np.ndarray, "groove latent"]:
        """The codes of grooves, the same at every call and beside whatever other grooves.

        Args:
            grooves: on this model's grid and drum classes, or their tokens, integers of shape (groove, step).

        Raises:
            ConfigError: a model without a latent space, or grooves of another grid or number of drums.
        """
        self._check_latent()
        return encode_windows(self.model, self._tokens(grooves))

    def decode(self, codes: Float[np.ndarray, "*groove latent"], *, tempo: float | None = None) -> list[DrumGroove]:
        """The grooves of codes of shape (latent,) or (groove, latent).

        Raises:
            ConfigError: a model without a latent space, or codes of another one.
        """
        self._check_latent()
        codes = np.atleast_2d(codes)
        self._check_codes(codes)
        tokens = decode_codes(self.model, codes.astype(np.float32), self.precision)
        hits = hits_from_tokens(tokens, self.drum_map.num_drums)
        return [self.feel.groove(hits[i], tempo=tempo, source=f"decoded {i}") for i in range(len(hits))]

    def interpolate(
        self,
        start: Place,
        end: Place,
        points: int = 9,
        *,
        feel: str | None = None,
        like_player: DrumGroove | None = None,
    ) -> list[DrumGroove]:
        """Grooves on the arc between two codes (slerp), both ends included, with equal changes from each to the next.

        The first and the last have exactly the hits of `decode(encode(start))` and `decode(encode(end))`. The tempo
        goes along. A hit that one of the given grooves has too is played as there; the nearer one goes first.

        Raises:
            ConfigError: as in `encode`, `decode` and `sample`.
            ValueError: fewer than two points.
        """
        playing = self._playing(feel, like_player)
        arc = self.path(self._code(start), self._code(end), points)
        tempos = np.linspace(self._tempo(start), self._tempo(end), points).tolist()
        given, interpolated = (self._played(start), self._played(end)), []
        for point, (groove, tempo) in enumerate(zip(self.decode(arc.codes().numpy()), tempos, strict=True)):
            first, second = arc.ends_of(point)
            kept = given[first].otherwise(given[second])
            interpolated += playing.grooves([point], groove.hits[None], tempo, kept, source="interpolation", seed=0)
        return interpolated

    def path(
        self, start: Float32[np.ndarray, " latent"], end: Float32[np.ndarray, " latent"], points: int
    ) -> Interpolation:
        """Where the points of an interpolation are (`musicvae.generation.interpolation`).

        Raises:
            ValueError: fewer than two points.
        """
        return interpolation(self.model, start, end, points)

    way = path
    """The name that earlier versions have for `path`."""

    def vary(
        self,
        start: Place,
        distance: float = DEFAULT_DISTANCE,
        count: int = 8,
        *,
        seed: int = 0,
        feel: str | None = None,
        like_player: DrumGroove | None = None,
    ) -> list[DrumGroove]:
        """Variations of a groove; variation i of a seed is the same for every count.

        Args:
            distance: 0 is its reconstruction, 1 a draw from the prior that knows nothing of it.

        Raises:
            ConfigError: as in `encode`, `decode` and `sample`.
            ValueError: a distance outside 0..1, a negative count or seed.
        """
        playing, kept = self._playing(feel, like_player), self._played(start)
        recipe = GenerationSettings(VariationSource(self._code(start)[None], distance), seed, temperature=None)
        return self._made(recipe, count, playing, tempo=self._tempo(start), source="variation", kept=kept)

    def continued(
        self,
        start: DrumGroove,
        bars: int = 1,
        count: int = 8,
        *,
        seed: int = 0,
        distance: float = DEFAULT_DISTANCE,
        temperature: float = 1.0,
        feel: str | None = None,
        like_player: DrumGroove | None = None,
    ) -> list[DrumGroove]:
        """Grooves that begin with some bars of another one, as they were played; the rest is drawn.

        Args:
            bars: of the start that are kept; z is that of these bars, repeated to the window's length.
            distance: of z from there, as in `vary`.

        Raises:
            ConfigError: as in `encode`, `decode` and `sample`.
            ValueError: no bars or no fewer than all, a distance outside 0..1, a negative count or seed.
        """
        playing = self._playing(feel, like_player)
        tokens = self._tokens(start)
        hit_mask = first_bars(tokens, bars, self.grid)
        origin = VariationSource(self.encode(looped(tokens, bars, self.grid)), distance)
        recipe = GenerationSettings(origin, seed, temperature, hit_mask=hit_mask)
        kept = self._played(start).before(bars * self.grid.steps_per_bar)
        return self._made(recipe, count, playing, tempo=start.tempo, source="continuation", kept=kept)

    def move(self, start: Place, *, feel: str | None = None, **amounts: float) -> DrumGroove:
        """A groove with more or less of some attributes: `move(groove, density=1.5, snare=-1)`.

        The code is moved along the direction of each attribute, in standard deviations of the attribute over the
        training windows. `attributes` lists them; how far the decoded groove follows is measured by `jobs.latent`.

        Raises:
            ConfigError: as in `encode`, `decode` and `sample`, no such attribute, or a model that was exported without
                them.
        """
        playing = self._playing(feel, None)
        moved = self._code(start) + self.attribute_vectors().shift(amounts)
        groove = self.decode(moved, tempo=self._tempo(start))[0]
        kept = self._played(start)
        return playing.grooves([0], groove.hits[None], groove.tempo, kept, source=groove.source, seed=0)[0]

    def humanize(
        self,
        groove: DrumGroove,
        *,
        seed: int = 0,
        timing: float = DEFAULT_AMOUNT,
        velocity: float = DEFAULT_AMOUNT,
        temperature: float = 1.0,
        like_player: DrumGroove | None = None,
        around: bool = False,
    ) -> DrumGroove:
        """The groove, of any number of bars, with the velocity and timing of a performance: see `Performer.humanize`.

        The performance model that comes with the package plays it, whatever this model is.

        Raises:
            ConfigError: a groove of another metre or with other drums.
            ValueError: an amount outside 0..1, a negative seed, or a temperature that is not positive.
        """
        from musicvae.pretrained.performer import shipped_performer  # whose model card knows this class

        how = {"seed": seed, "timing": timing, "velocity": velocity, "temperature": temperature, "around": around}
        return shipped_performer().humanize(groove, like_player=like_player, **how)

    def attribute_vectors(self) -> AttributeVectors:
        """The directions of attributes.

        Raises:
            ConfigError: a model that was exported without them.
        """
        if self.vectors is None:
            raise ConfigError(
                "this model cannot be moved along attributes",
                expected="an export with attribute vectors",
                found="a model without attribute vectors",
                likely="a run folder, or an export without --shards",
                do="export the run again: python -m jobs.export RUN OUT --shards SHARDS",
            )
        return self.vectors

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of what `move` takes and `measure` gives."""
        return attribute_names(self.drum_map.classes)

    def measure(self, grooves: Grooves) -> dict[str, Float64[np.ndarray, " groove"]]:
        """Each attribute of each groove in its own unit (`musicvae.groove.features.measure_attributes`).

        Raises:
            ConfigError: grooves of another grid or number of drums.
        """
        hits = hits_from_tokens(self._tokens(grooves), self.drum_map.num_drums)
        values = measure_attributes(hits, self.grid, self.drum_map.classes)
        return dict(zip(self.attributes, values.T, strict=True))

    def neighbours(
        self, start: Place, among: Grooves | Float[np.ndarray, "groove latent"], count: int = 5
    ) -> list[Neighbour]:
        """The nearest of some grooves by the distance of codes, the nearest first.

        The training data does not come with a model, so what is searched is given: grooves, tokens, or codes that were
        computed once with `encode` (for a whole collection that saves nearly all of the time).

        Raises:
            ConfigError: as in `encode` and `decode`.
        """
        if isinstance(among, np.ndarray) and np.issubdtype(among.dtype, np.floating):
            codes = among
            self._check_codes(codes)
        else:
            codes = self.encode(among)
        return nearest_codes(self._code(start), codes, count)

    def _code(self, place: Place) -> Float32[np.ndarray, " latent"]:
        if isinstance(place, DrumGroove):
            return self.encode(place)[0]
        self._check_latent()
        self._check_codes(place[None])
        return place.astype(np.float32)

    def _tempo(self, place: Place) -> float:
        return place.tempo if isinstance(place, DrumGroove) else self.feel.tempo

    def _played(self, place: Place) -> PlayedHits:
        """The hits that stay as they were played; a code has none."""
        if isinstance(place, DrumGroove):
            return PlayedHits.of(place)
        return PlayedHits.none(self.grid.num_steps, self.drum_map.num_drums)

    def _playing(
        self, feel: str | None, like_player: DrumGroove | None, wanted: WantedStyle | None = None
    ) -> "Playing":
        """How hits are played that nobody gave.

        Raises:
            ConfigError: no such style, or a performance model that is needed and does not fit.
        """
        from musicvae.pretrained.performer import Playing, performer_for  # whose model card knows this class

        needed = PLAYED if feel is None and like_player is not None else feel
        performer = performer_for(needed, self.grid, self.drum_map)
        if performer is not None:
            of_style = wanted is not None and like_player is None
            manner = wanted.manner if wanted and of_style else performer.manner_of(like_player)
            return Playing(self.feel, performer, manner, not of_style, precision=self.precision)
        if like_player is not None:
            problem, cure = "like_player needs grooves that are played", "leave one of the two out"
            raise ConfigError(problem, expected=f"the feel {PLAYED}", found=f"the feel {feel}", do=cure)
        if feel == PLAIN:
            return Playing(self.feel.plain(), keeps=False)
        feel = wanted.main if wanted and feel is None else feel
        if feel in (None, MEAN):
            return Playing(self.feel)
        styles = None if self.training is None else self.training.styles
        return Playing((styles or StyleFeels(())).of(feel or "").applied(self.feel))

    def _made(
        self,
        recipe: GenerationSettings,
        count: int,
        playing: "Playing",
        *,
        tempo: float | None,
        source: str,
        kept: PlayedHits | None = None,
    ) -> list[DrumGroove]:
        if count < 0:
            raise ValueError(f"a count cannot be negative, found {count}")
        settings, made = replace(recipe, precision=self.precision), []
        for number in range(num_batches(count)):
            items = range(number * BATCH, (number + 1) * BATCH)
            rows = WHOLE if playing.manner is not None and playing.exactly else slice(min(BATCH, count - items[0]))
            hits = hits_from_tokens(generate_batch(self.model, settings, number, rows), self.drum_map.num_drums)
            made += playing.grooves(items[rows], hits, tempo, kept, source=source, seed=recipe.seed, wanted=count)
        return made

    def _tokens(self, grooves: Grooves) -> Int16[np.ndarray, "groove step"]:
        if isinstance(grooves, np.ndarray):
            in_vocabulary = ((grooves >= 0) & (grooves < self.drum_map.vocab)).all()
            if grooves.ndim != 2 or grooves.shape[1] != self.grid.num_steps or not in_vocabulary:
                raise ConfigError(
                    "these tokens do not fit this model",
                    expected=f"{self.grid.num_steps} a window, each 0 to {self.drum_map.vocab - 1}",
                    found=f"shape {grooves.shape}, {grooves.min(initial=0)} to {grooves.max(initial=0)}",
                    do="build the shards with the model's grid and drum map",
                )
            return grooves.astype(np.int16)
        several = [grooves] if isinstance(grooves, DrumGroove) else list(grooves)
        for groove in several:
            if groove.grid != self.grid or groove.hits.shape[1] != self.drum_map.num_drums:
                raise ConfigError(
                    f"groove {groove.source!r} does not fit this model",
                    expected=f"{self.grid} and {self.drum_map.num_drums} drums",
                    found=f"{groove.grid} and {groove.hits.shape[1]} drums",
                    do="read it with the model's grid and drum map",
                )
        return np.concatenate([np.zeros((0, self.grid.num_steps), np.int16), *(g.tokens[None] for g in several)])

    def _check_latent(self) -> None:
        if not self.latent:
            raise ConfigError(
                "this model has no latent space",
                expected="a model with a latent space, such as the shipped `reconstruction`",
                found="latent 0: the model predicts each step from earlier ones",
                do="use sample(), or load another model",
            )

    def _check_codes(self, codes: Float[np.ndarray, "groove latent"]) -> None:
        if codes.ndim != 2 or codes.shape[1] != self.latent or not np.isfinite(codes).all():
            raise ConfigError(
                "these codes do not fit this model",
                expected=f"finite numbers of shape (groove, {self.latent})",
                found=f"shape {codes.shape}" + ("" if np.isfinite(codes).all() else ", not all finite"),
                do="use codes that this model has encoded",
            )
