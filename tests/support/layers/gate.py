"""What a run of `.ci/run` did: the seconds of each layer, how many tests ran, what was skipped and why, the slowest.

    python -m tests.support.layers.gate out/gate

The folder holds `seconds.tsv`, a line `LAYER SECONDS EXIT_STATUS` for each layer that ended, and the JUnit file
`LAYER.xml` of each layer that pytest ran.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

SLOWEST = 10


@dataclass
class Layer:
    """One line of the table.

    Attributes:
        seconds: of the whole command; None where it did not end.
        times: seconds of each test.
        skips: how often each reason was given.
    """

    name: str
    seconds: float | None = None
    exit_status: int = 0
    times: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    skips: Counter[str] = field(default_factory=Counter)

    @property
    def passed(self) -> int:
        return len(self.times) - len(self.failed) - self.skips.total()


def read_layers(folder: Path) -> list[Layer]:
    """All layers that left something in a folder, in the order in which they ended."""
    layers: dict[str, Layer] = {}
    table = folder / "seconds.tsv"
    for line in table.read_text().splitlines() if table.exists() else []:
        name, seconds, status = line.split("\t")
        layers[name] = Layer(name, float(seconds), int(status))
    for file in sorted(folder.glob("*.xml")):
        layer = layers.setdefault(file.stem, Layer(file.stem))
        for case in ElementTree.parse(file).iter("testcase"):
            if not case.get("name"):  # what stands of a test that was cut off
                continue
            name = f"{case.get('classname')}::{case.get('name')}"
            layer.times[name] = float(case.get("time", 0))
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                layer.failed.append(name)
            elif skipped is not None:
                layer.skips[skipped.get("message", "no reason given")] += 1
    return list(layers.values())


def summary(layers: list[Layer]) -> str:
    """The last lines of a gate."""
    rows = [f"{'layer':<12}{'seconds':>9}{'passed':>8}{'failed':>8}{'skipped':>9}"]
    for layer in layers:
        seconds = "not ended" if layer.seconds is None else f"{layer.seconds:.0f}"
        note = f"  exit status {layer.exit_status}" if layer.exit_status else ""
        rows.append(
            f"{layer.name:<12}{seconds:>9}{layer.passed:>8}{len(layer.failed):>8}{layer.skips.total():>9}{note}"
        )
    rows += [f"failed: {name}" for layer in layers for name in layer.failed]
    skips = sum((layer.skips for layer in layers), Counter[str]())
    rows += [f"skipped {count} times: {reason}" for reason, count in skips.most_common()]
    slowest = sorted((time, name, layer.name) for layer in layers for name, time in layer.times.items())[-SLOWEST:]
    rows += [f"slow: {time:6.1f} s  {name} ({layer})" for time, name, layer in reversed(slowest)]
    passed, failed = sum(layer.passed for layer in layers), sum(len(layer.failed) for layer in layers)
    rows.append(f"{passed} passed, {failed} failed, {skips.total()} skipped")
    return "\n".join(rows)


if __name__ == "__main__":
    print(summary(read_layers(Path(sys.argv[1]))))
