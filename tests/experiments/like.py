"""How much of a given groove `jobs.sample --like` keeps: hit F1 with its own input, and with inputs paired at random.

    python tests/experiments/like.py --run RUN --shards SHARDS [--windows 50] [--distance 0]

Takes windows evenly spaced over the validation split, joins them to one MIDI file, has the command vary each of them
once, and compares the tokens of its manifest with those that went in.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from musicvae.data.manifest import FolderShards, ShardManifest
from musicvae.data.shards import read_tokens
from musicvae.durable import read_lines
from musicvae.evaluation.elbo import spaced_windows
from musicvae.evaluation.scores import MatchCounts
from musicvae.groove.grid import GridSpec
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.midi.writer import write_groove
from tests.support.commands import ok, run_job


def like_f1(run: Path, shards: Path, *, windows: int, distance: float, folder: Path) -> tuple[float, float]:
    """Mean hit F1 over windows: of each result with its own input, and with every other input."""
    manifest = ShardManifest.read(shards)
    tokens = read_tokens(FolderShards(shards), manifest, "validation").tokens
    given = tokens[spaced_windows(len(tokens), windows)]
    given = given[(given != 0).any(axis=1)]
    song = folder / "given.mid"
    write_groove(joined(given, manifest), song, manifest.drum_map)
    out = folder / "like"
    ok(run_job("sample", "--run", run, "--like", song, "--distance", distance, "--count", len(given), "--out", out))
    made = np.array([record["tokens"] for record in read_lines(out / "manifest.jsonl")], dtype=np.int16)
    num_drums = manifest.drum_map.num_drums
    f1 = np.array([[MatchCounts.compare(a[None], b[None], num_drums).hit_f1 for a in given] for b in made])
    own = np.eye(len(given), dtype=bool)
    return float(np.nanmean(f1[own])), float(np.nanmean(f1[~own]))


def joined(tokens: np.ndarray, manifest: ShardManifest) -> DrumGroove:
    """Windows one after the other, as one long groove on the grid."""
    hits = hits_from_tokens(tokens, manifest.drum_map.num_drums).reshape(-1, manifest.drum_map.num_drums)
    grid = manifest.grid
    long = GridSpec(grid.bars * len(tokens), grid.beats_per_bar, grid.steps_per_beat)
    return DrumGroove(long, hits, hits.astype(np.float32), np.zeros(hits.shape, dtype=np.float32))


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--run", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--shards", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--distance", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    arguments = parser.parse_args()
    print("distance  hit F1 with its input  with another input  difference")
    for distance in arguments.distance:
        with tempfile.TemporaryDirectory() as folder:
            own, other = like_f1(
                arguments.run, arguments.shards, windows=arguments.windows, distance=distance, folder=Path(folder)
            )
        print(f"{distance:8.2f}  {own:21.3f}  {other:18.3f}  {own - other:10.3f}")


if __name__ == "__main__":
    main()
