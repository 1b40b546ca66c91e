"""The time grid that every groove lives on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GridSpec:
    """Bars of equal beats, each cut into equal steps; all other lengths follow from these three."""

    bars: int = 4
    beats_per_bar: int = 4
    steps_per_beat: int = 4

    def __post_init__(self) -> None:
        for name in ("bars", "beats_per_bar", "steps_per_beat"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"grid.{name} must be positive, found {value}")

    @property
    def steps_per_bar(self) -> int:
        """16 for four beats of four sixteenths."""
        return self.beats_per_bar * self.steps_per_beat

    @property
    def num_steps(self) -> int:
        """Steps of one window: 64 for four bars of 4/4 in sixteenths."""
        return self.bars * self.steps_per_bar
