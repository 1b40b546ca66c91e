"""The line coverage of each package by each layer of tests, and by all of them.

    python -m tests.support.layers.coverage_table out/coverage test test-slow

The folder holds what `coverage run` left of each layer: LAYER.* files, one a process.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import Coverage

PACKAGES = ("jobs", "musicvae", "preprocess", "cluster")


def covered_lines(files: Sequence[Path], folder: Path) -> dict[str, tuple[int, int]]:
    """For each package the lines that ran, and all lines that could."""
    measured = Coverage(data_file=str(folder / "combined"))
    measured.combine([str(file) for file in files], keep=True)
    measured.json_report(outfile=str(folder / "report.json"), ignore_errors=True)
    covered, statements = Counter[str](), Counter[str]()
    for name, file in json.loads((folder / "report.json").read_text())["files"].items():
        package = Path(name).parts[0]
        covered[package] += file["summary"]["covered_lines"]
        statements[package] += file["summary"]["num_statements"]
    return {package: (covered[package], statements[package]) for package in PACKAGES}


def table(folder: Path, layers: Sequence[str]) -> str:
    """One row a package, one column a layer, and all layers together."""
    files = {layer: sorted(folder.glob(f"{layer}.*")) for layer in layers}
    files["together"] = [file for layer in layers for file in files[layer]]
    columns = {}
    for name, own in files.items():
        with TemporaryDirectory() as work:
            columns[name] = covered_lines(own, Path(work))
    rows = [f"{'package':<12}" + "".join(f"{name:>22}" for name in columns)]
    for package in PACKAGES:
        cells = [
            f"{ran} of {lines} {ran / max(1, lines):6.2%}" for ran, lines in (c[package] for c in columns.values())
        ]
        rows.append(f"{package:<12}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]), sys.argv[2:]))
