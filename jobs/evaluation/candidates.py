"""The trained models that `jobs.evaluate` puts into its tables."""

from dataclasses import dataclass
from pathlib import Path

from musicvae.data.manifest import ShardManifest
from musicvae.data.sources import ShardSource
from musicvae.errors import ConfigError
from musicvae.groove.drum_map import DrumMap
from musicvae.pretrained.load import TrainedModel, is_export, load_run

TRAINED_BASELINES = Path(__file__).parents[1] / "baselines"
"""Exported models that stand in every table, beside the counted baselines."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A trained model under the name that it has in the tables."""

    name: str
    path: Path
    trained: TrainedModel
    is_baseline: bool = False


def candidates(paths: list[Path], taken: list[str]) -> list[Candidate]:
    """Loads runs and exports; each is named after its folder, with the folders above where two would be the same.

    Raises:
        ConfigError: no run or export there, or one path twice.
        DataError: a damaged file.
    """
    found: list[Candidate] = []
    for path in paths:
        if any(path.resolve() == candidate.path.resolve() for candidate in found):
            raise ConfigError(f"{path} is named twice", do="name each model once")
        names = {*taken, *(candidate.name for candidate in found)}
        parts = path.resolve().parts
        ends = ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
        name = next((end for end in ends if end not in names), str(path))
        found.append(Candidate(name, path, load_run(path)))
    return found


def trained_baselines(manifest: ShardManifest) -> list[Candidate]:
    """The models in `TRAINED_BASELINES` that know the shards' grid and drum map, by name."""
    folders = (path for path in sorted(TRAINED_BASELINES.glob("*")) if is_export(path))
    found = (Candidate(path.name, path, load_run(path), is_baseline=True) for path in folders)
    return [candidate for candidate in found if _difference(candidate, manifest) is None]


def check_same_format(candidate: Candidate, shards: ShardSource, manifest: ShardManifest) -> None:
    """A token means another thing under another grid or drum map.

    Raises:
        ConfigError: the run and the shards differ in them.
    """
    if (difference := _difference(candidate, manifest)) is None:
        return
    what, of_run, of_shards = difference
    raise ConfigError(
        f"the run and the shards differ in their {what}",
        expected=f"{of_run}, which {candidate.path} was trained with",
        found=f"{of_shards} in {shards}",
        likely="shards built with other settings than those trained on",
        do="name the shards that the run was trained on, or build some with its settings",
    )


def _difference(candidate: Candidate, manifest: ShardManifest) -> tuple[str, str, str] | None:
    """What model and shards differ in, and what it is of each; None where a token means the same to both."""
    trained = candidate.trained
    if trained.grid != manifest.grid:
        return "grid", str(trained.grid), str(manifest.grid)
    if list(trained.drum_map.pitches.items()) != list(manifest.drum_map.pitches.items()):
        return "drum map", _described(trained.drum_map), _described(manifest.drum_map)
    return None


def other_shards_note(candidate: Candidate, manifest: ShardManifest) -> str:
    """What to keep in mind of a model that was trained on other shards."""
    return (
        f"note: {candidate.path} was trained on shards {candidate.trained.fingerprint}, these are "
        f"{manifest.fingerprint}: its training windows may be among them"
    )


def _described(drum_map: DrumMap) -> str:
    pitches = ", ".join(f"{drum} {'/'.join(map(str, pitches))}" for drum, pitches in drum_map.pitches.items())
    return f"{drum_map.name} ({pitches})"
