"""One job of sampling: all that any process needs to make and write any of its grooves, as MIDI and as sound.

This is the only file that knows soundfile.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16, Int64

from jobs.sampler.parts import Rows
from jobs.sampler.recipe import SampleRecipe, default_model, resolve
from jobs.sampler.settings import Audio, SampleSettings
from jobs.sampler.work import SampleWork
from musicvae.errors import ConfigError, DataError
from musicvae.generation.settings import BATCH
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.groove.played import PlayedHits
from musicvae.groove.sound import SAMPLE_RATE, render_led_in, render_loop, wav_bytes
from musicvae.midi.writer import MidiLayout, grooves_to_midi
from musicvae.pretrained.load import load, load_run
from musicvae.pretrained.model import TrainedModel
from musicvae.pretrained.performer import shipped_performer

FILES_PER_FOLDER = 1000
"""Most grooves in a folder; file managers and shared file systems suffer from more."""
MIDI_SUFFIX = ".mid"
UNPLAYED = (
    "the performance model does not fit the grid or the drums of this model: new hits have the mean velocity and "
    "timing of the training data (--feel mean)"
)
EARLY, SOUND = "early_hits", "sound"
"""Settings of a sampling: where a hit before the first beat is in its files, and what its sound files are."""
AS_GIVEN = ("audio", "gallery", "midi_format", "ticks", "drop_duplicates", "drop_memorised", "best", "by", "refill")
"""Options that decide the output by their own values."""


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model lies.

    Attributes:
        run: a run folder or an export; None where `name` is loaded.
        name: a shipped model, or a folder of an export.
    """

    run: str | None
    name: str


@lru_cache(maxsize=1)
def loaded(place: ModelPlace) -> TrainedModel:
    """The model at a place; a process that asks again gets the same."""
    return load_run(Path(place.run)) if place.run is not None else load(place.name)


@dataclass(frozen=True, slots=True, eq=False)
class BatchPart:
    """Some items of an inner batch, which are neighbours.

    Attributes:
        items, tokens: of the whole batch.
        places: of the items in it.
    """

    items: Int64[np.ndarray, " item"]
    tokens: Int16[np.ndarray, "item step"]
    places: slice

    def chosen(self, name: str) -> np.ndarray:
        """`items` or `tokens` of the items at these places."""
        return getattr(self, name)[self.places]


@dataclass(frozen=True, slots=True)
class SampleJob:
    """What to make of a model and how to hand it over; not where it is made.

    Attributes:
        weights: hash of the model's weights, as the job began with them.
        drum_map: the model's drums, with the pitches that they are written as.
        options: as they are given.
        settings: all that decides the output but for how many grooves it has, in plain values.
        notice: what the user is told of how it is played; empty if there is nothing to tell.
        clamped: whether a version began it that moves hits before the first beat onto it; the rest does so too.
    """

    out: Path
    model: ModelPlace
    weights: str
    made: SampleRecipe
    drum_map: DrumMap
    layout: MidiLayout
    options: SampleSettings
    settings: dict[str, Any]
    notice: str = ""
    clamped: bool = False

    def trained(self) -> TrainedModel:
        """The model of the job.

        Raises:
            ConfigError: its weights are others now.
        """
        trained = loaded(self.model)
        if trained.weights_hash != self.weights:
            raise ConfigError(
                "the weights of the model have changed since the sampling started",
                expected=f"weights {self.weights}",
                found=f"weights {trained.weights_hash}",
                likely="the run is still training",
                do="export the run (python -m jobs.export), and sample from the export into another --out",
            )
        return trained

    @property
    def settings_hash(self) -> str:
        """A short hash of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]

    def name(self, item: int) -> str:
        """The id of an item, the same for every count."""
        return f"groove-{item:05d}"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that each groove has, or would have where they are packed."""
        return tuple(filter(None, (MIDI_SUFFIX, sound_suffix(self.options.audio))))

    def file(self, item: int, suffix: str = MIDI_SUFFIX) -> str:
        """Path of an item's file in the output."""
        return f"{item // FILES_PER_FOLDER:03d}/{self.name(item)}{suffix}"

    def caption(self, item: int) -> str:
        """What stands over an item's drum grid."""
        source = self.made.source(item)
        return self.name(item) + (f" like {source.source}, bar {source.bar + 1}" if source else "")

    def play(self, trained: TrainedModel, parts: Sequence[BatchPart]) -> PlayedHits | None:
        """How the performance model plays parts of inner batches; None where it plays none."""
        if self.made.performer is None:
            return None
        recipe, exactly, played = self.made.recipe, self.made.plays_together, []
        if not exactly:  # no groove depends on the others: those with about as many hits are played together
            items, tokens = (np.concatenate([part.chosen(name) for part in parts]) for name in ("items", "tokens"))
            parts = [BatchPart(items, tokens, slice(None))]
        for part in parts:
            items, hits = part.items.tolist(), hits_from_tokens(part.tokens, trained.drum_map.num_drums)
            tempos = [self.made.tempo_of(trained, item) for item in items]
            how = {"seed": recipe.seed, "manner": self.made.manner, "exactly": exactly, "precision": recipe.precision}
            how |= {"centred": self.made.is_centred, "wanted": part.places}
            played.append(shipped_performer().play_items(items, hits, tempos, self.made.kept(items), **how))
        return PlayedHits.joined(played)

    def heard(self, trained: TrainedModel, rows: Rows) -> PlayedHits:
        """The hits of items as every file has them."""
        hits = hits_from_tokens(rows.tokens, trained.drum_map.num_drums)
        kept = self.made.kept(rows.items.tolist()) if self.made.performer is None else rows.played(hits.shape[-1])
        velocity, offset = self.made.feel(trained).play(hits, kept)
        if self.clamped:
            offset[:, 0] = offset[:, 0].clip(min=0)
        return PlayedHits(hits, velocity, offset)

    def grooves(self, trained: TrainedModel, rows: Rows) -> list[DrumGroove]:
        """Items as grooves with velocity, timing and tempo."""
        heard = self.heard(trained, rows)
        return [
            DrumGroove(
                trained.grid,
                heard.hits[row],
                heard.velocity[row],
                heard.offset[row],
                self.made.tempo_of(trained, item),
                self.caption(item),
            )
            for row, item in enumerate(rows.items.tolist())
        ]

    def contents(
        self, trained: TrainedModel, rows: Rows, midi: Sequence[bytes] | None = None
    ) -> Iterator[dict[str, bytes]]:
        """What each item's files hold, by suffix; one loop of sound is held at a time.

        Args:
            midi: the MIDI file of each, where it is known.
        """
        sounds, midi = self.options.audio is not Audio.NONE, self.midi(trained, rows) if midi is None else midi
        grooves = self.grooves(trained, rows) if sounds else [None] * len(rows)
        for groove, data in zip(grooves, midi, strict=True):
            contents = {MIDI_SUFFIX: data}
            if groove is not None:
                whole = groove if self.made.humanizing is None else self.made.humanizing.files[0].again(data).groove()
                contents[sound_suffix(self.options.audio)] = self._sound(whole, trained.drum_map)
            yield contents

    def _sound(self, groove: DrumGroove, drum_map: DrumMap) -> bytes:
        return sound_bytes(self.options.audio, groove, drum_map, self.layout)

    def midi(self, trained: TrainedModel, rows: Rows) -> list[bytes]:
        """The MIDI file of each item."""
        items = rows.items.tolist()
        if self.made.humanizing is not None:
            return [self.made.humanized(item) for item in items]
        heard = self.heard(trained, rows)
        tempos, names = [self.made.tempo_of(trained, item) for item in items], [*map(self.name, items)]
        return grooves_to_midi(heard.hits, heard.velocity, heard.offset, tempos, names, trained.grid, self.layout)


def job_of(options: SampleSettings, out: Path, *, overwrite: bool = False) -> SampleJob:
    """The job that options ask for, as an earlier version would make it if one began it in `out`.

    Args:
        overwrite: whether another job in `out`, and this one if it is complete, is replaced.

    Raises:
        ConfigError: no such model, drum map or file, or they do not fit together.
        DataError: a damaged model, a file that cannot be varied, or a damaged record in `out`.
    """
    place = ModelPlace(options.run, options.preset or default_model(options))
    trained = loaded(place)
    made = resolve(options, trained)
    drum_map = _written_as(options.pitches, trained.drum_map)
    pitches = tuple(drum_map.written_pitch.tolist())
    layout = MidiLayout(pitches, options.midi_format, options.ticks, options.lead_in)  # type: ignore[arg-type]
    of_all = {
        "weights": trained.weights_hash,
        "step": trained.step,
        "training_shards": trained.fingerprint,
        "inner_batch": BATCH,
        "feel": hashlib.sha256(trained.feel.velocity.tobytes() + trained.feel.offset.tobytes()).hexdigest()[:12],
        "form": options.pack,
        "pitches": list(layout.pitches),
        "nearest_training": options.shards is not None,
        **{name: getattr(options, name) for name in AS_GIVEN},
        "pick": None if options.pick is None else _list_hash(options.pick),
        EARLY: "in a lead-in" if options.lead_in else "at the end",
    }
    if options.audio is not Audio.NONE:
        of_all[SOUND] = f"{SAMPLE_RATE} Hz, stereo"
    unplayed = options.feel is None and made.performer is None
    settings, notice = {**made.settings(), **of_all}, UNPLAYED if unplayed else ""
    job = SampleJob(out, place, trained.weights_hash, made, drum_map, layout, options, settings, notice)
    return _as_begun(job, of_all, SampleWork(out), overwrite=overwrite)


def _as_begun(job: SampleJob, of_all: dict[str, Any], work: SampleWork, *, overwrite: bool) -> SampleJob:
    """The job as an earlier version would make it, if one began it.

    Args:
        of_all: the settings that do not depend on how it is played.
    """
    try:
        recorded = work.settings()
    except DataError:
        if overwrite:
            return job
        raise
    if recorded is None:
        return job
    made = job.made.older(recorded)
    if job.options.feel is not None or job.options.like_player is not None:  # that is what is wanted
        made = replace(made, performer=job.made.performer, player=job.made.player)
    if job.options.best_of is not None:
        made = replace(made, recipe=job.made.recipe)
    of_new, of_kept = made.performer != job.made.performer, made.given is not job.made.given
    clamped = EARLY not in recorded and not job.options.lead_in
    unchosen = made.recipe.best_of is not job.made.recipe.best_of
    if not (of_new or of_kept or clamped or unchosen):
        return job
    which = "all" if of_new and (of_kept or made.given is None) else "new" if of_new else "kept"
    notices = [f"{which} hits have the mean velocity and timing"] if of_new or of_kept else []
    notices += ["hits before the first beat are moved onto it"] if clamped else []
    begun_by = "by an earlier version" if notices else "with --all, or by an earlier version"
    notices += ["no groove is chosen from several"] if unchosen else []
    notice = f"{job.out} was begun {begun_by}: {', and '.join(notices)}, as it began"
    settings = {name: value for name, value in {**made.settings(), **of_all}.items() if name != EARLY or not clamped}
    begun = replace(job, made=made, settings=settings, notice=notice, clamped=clamped)
    return job if overwrite and not work.is_half_made(begun.settings, job.options) else begun


def _list_hash(items: Sequence[int]) -> str:
    return f"{len(items)} grooves, {hashlib.sha256(json.dumps(items).encode()).hexdigest()[:12]}"


def _written_as(name: str | None, model_map: DrumMap) -> DrumMap:
    drum_map = model_map if name is None else DrumMap.load(name)
    if drum_map.classes != model_map.classes:
        raise ConfigError(
            f"--pitches {name} cannot be used",
            expected=f"a drum map with the classes of the model: {', '.join(model_map.classes)}",
            found=", ".join(drum_map.classes),
            do="choose roland or general_midi, or a drum map of your own with these classes",
        )
    return drum_map


def sound_suffix(audio: Audio) -> str:
    """Of a file with a loop; empty where there is to be none."""
    return "" if audio is Audio.NONE else f".{audio}"


def sound_bytes(audio: Audio, groove: DrumGroove, drum_map: DrumMap, layout: MidiLayout) -> bytes:
    """The file of a loop, stereo, 16 bits, exactly as long as its bars; with a lead-in, of a groove played once.

    Args:
        layout: of the MIDI file whose onsets it has.

    Raises:
        ValueError: no kind of file is asked for.
    """
    rendered = render_led_in if layout.lead_in else render_loop
    sound = rendered(groove, drum_map, stereo=True, ticks=layout.ticks_per_quarter)
    match audio:
        case Audio.WAV:
            return wav_bytes(sound)
        case Audio.FLAC:
            import soundfile  # takes a while to load, so only where it is asked for

            data = io.BytesIO()  # soundfile's own errors would not say that the disk is full
            soundfile.write(data, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            return data.getvalue()
        case Audio.NONE:
            raise ValueError("no sound is requested")
