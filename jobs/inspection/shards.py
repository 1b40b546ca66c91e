"""A folder of shards, looked at: what it holds, whether every byte is right, what its windows are like."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

from jobs.command.command_line import console
from jobs.inspection.midi_file import hit_values, window_text, window_values
from musicvae.data.manifest import FolderShards, ShardEntry, ShardManifest
from musicvae.data.shards import read_shard
from musicvae.data.statistics import WindowStatistics, count_windows
from musicvae.data.store import find_windows
from musicvae.errors import DataError
from musicvae.terminal import shown


@dataclass(frozen=True, slots=True)
class CheckedSplit:
    """A split after all its shards were read.

    Attributes:
        damaged: what is wrong, by name of the shard.
        statistics: of the windows of the other shards.
    """

    damaged: dict[str, str]
    statistics: WindowStatistics


def show_shards(folder: Path, *, split: str | None, window: int | None, as_json: bool) -> None:
    """Shows a folder of shards, one split of it, or one window of that (of train, if no split is named).

    Raises:
        ConfigError: no manifest, no such split or window.
        DataError: a damaged manifest, or damaged shards, once everything is shown.
    """
    manifest = ShardManifest.read(folder)
    if window is not None:
        _show_window(folder, manifest, split or "train", window, as_json)
        return
    if split is not None:
        manifest.split(split)
    names = [name for name in manifest.splits if split in (None, name)]
    checked = _check(folder, manifest, names, quiet=as_json)
    if as_json:
        print(json.dumps(_values(manifest, checked)))
    else:
        console.print(f"{folder}, fingerprint {manifest.fingerprint}", soft_wrap=True)
        console.print(_table(manifest, checked))
    damaged = {shard: damage for checked_split in checked.values() for shard, damage in checked_split.damaged.items()}
    if damaged:
        raise DataError(
            f"{len(damaged)} of {sum(len(manifest.splits[name].shards) for name in names)} shards cannot be used",
            expected="the files that the manifest describes",
            found="; ".join(f"{shard}: {damage}" for shard, damage in damaged.items()),
            likely="an incomplete copy, or a shard of another build in the same folder",
            do="copy the shards again, or rebuild them with --overwrite",
        )


def _show_window(folder: Path, manifest: ShardManifest, split: str, window: int, as_json: bool) -> None:
    (stored,) = find_windows(FolderShards(folder), manifest, split, [window])
    drums = manifest.drum_map.classes
    if as_json:
        about = {"split": split, "window": window, **window_values(stored.meta, stored.groove)}
        print(json.dumps({**about, "hits": hit_values(stored.groove, drums)}))
    else:
        print(shown(window_text(f"{split} {window}", stored.meta, stored.groove, drums)))


def _check(folder: Path, manifest: ShardManifest, splits: Sequence[str], *, quiet: bool) -> dict[str, CheckedSplit]:
    """Reads every shard once; no more than one is in memory."""
    num_drums = manifest.drum_map.num_drums
    checked = {name: CheckedSplit({}, WindowStatistics.zero(num_drums)) for name in splits}
    shards = [(name, shard) for name in splits for shard in manifest.splits[name].shards]
    for name, shard in _with_progress(shards, quiet=quiet):
        checked_split = checked[name]
        try:
            windows = read_shard(folder / shard.name, shard, grid=manifest.grid, num_drums=num_drums)
        except DataError as error:
            checked_split.damaged[shard.name] = error.details["found"]
            continue
        checked[name] = CheckedSplit(
            checked_split.damaged, checked_split.statistics + count_windows(windows, manifest.grid)
        )
    return checked


def _with_progress(shards: Sequence[tuple[str, ShardEntry]], *, quiet: bool) -> Iterator[tuple[str, ShardEntry]]:
    """A moving line on a terminal, nothing elsewhere."""
    hidden = quiet or not console.is_terminal
    yield from track(shards, "reading shards", console=console, transient=True, disable=hidden)


def _table(manifest: ShardManifest, checked: dict[str, CheckedSplit]) -> Table:
    """One column a split; statistics are of the windows that could be read."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column()
    for name in checked:
        table.add_column(name, justify="right")
    entries = [manifest.splits[name] for name in checked]
    statistics = [checked_split.statistics for checked_split in checked.values()]

    table.add_row("windows", *(f"{entry.windows:,}" for entry in entries))
    table.add_row("files", *(f"{entry.files:,}" for entry in entries))
    table.add_row("shards", *(f"{len(entry.shards):,}" for entry in entries))
    right = (_right(len(manifest.splits[name].shards), checked_split) for name, checked_split in checked.items())
    table.add_row("  with the right hash", *right)
    table.add_row("MB", *(f"{sum(shard.bytes for shard in entry.shards) / 1e6:,.1f}" for entry in entries))
    table.add_section()
    table.add_row("empty windows", *(f"{split_statistics.grooves.empty_share:.1%}" for split_statistics in statistics))
    table.add_row("hits per bar", *(f"{split_statistics.grooves.hits_per_bar:.2f}" for split_statistics in statistics))
    table.add_row(
        "quantization error, mean, steps", *(f"{split_statistics.mean_offset:+.3f}" for split_statistics in statistics)
    )
    table.add_row(
        "  standard deviation", *(f"{split_statistics.offset_deviation:.3f}" for split_statistics in statistics)
    )
    table.add_row("velocity, mean", *(f"{split_statistics.mean_velocity:.1f}" for split_statistics in statistics))
    table.add_section()
    for drum, name in enumerate(manifest.drum_map.classes):
        shares = (f"{split_statistics.grooves.class_shares[drum]:.1%}" for split_statistics in statistics)
        table.add_row(f"{name.replace('_', ' ')}, share of hits", *shares)
    grid = manifest.grid
    table.caption = f"{grid.bars} bars of {grid.steps_per_bar} steps, drum map {manifest.drum_map.name}"
    table.caption_justify = "left"
    return table


def _right(shards: int, checked: CheckedSplit) -> str:
    return f"{shards - len(checked.damaged):,}" if checked.damaged else "all"


def _values(manifest: ShardManifest, checked: dict[str, CheckedSplit]) -> dict[str, Any]:
    splits = {}
    for name, checked_split in checked.items():
        entry = manifest.splits[name]
        splits[name] = {
            "windows": entry.windows,
            "files": entry.files,
            "shards": len(entry.shards),
            "bytes": sum(shard.bytes for shard in entry.shards),
            "damaged": checked_split.damaged,
            "hits_per_bar": checked_split.statistics.grooves.hits_per_bar,
            "offset_mean": checked_split.statistics.mean_offset,
            "offset_deviation": checked_split.statistics.offset_deviation,
            "velocity_mean": checked_split.statistics.mean_velocity,
            "statistics": checked_split.statistics.to_json(),
        }
    return {
        "fingerprint": manifest.fingerprint,
        "schema": manifest.schema,
        "grid": asdict(manifest.grid),
        "drum_map": {"name": manifest.drum_map.name, "pitches": manifest.drum_map.pitches},
        "splits": splits,
    }
