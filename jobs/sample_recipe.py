"""From options to what the model is asked for: the one place that knows the modes of jobs.sample."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.sample_options import SampleOptions
from jobs.sample_source import windows_of_file
from musicvae.feel import GrooveFeel
from musicvae.sampling import FromPrior, LikeWindows, Recipe
from musicvae.shards import WindowMeta
from musicvae.trained_model import DEFAULT_DISTANCE, TrainedModel


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """What items are, with all that the tokens do not say.

    Attributes:
        tempo: quarter notes per minute; None is the source window's, or the training data's median.
        dry: one velocity for every hit, and every hit on the grid.
        windows: what the windows of a `LikeWindows` recipe are, in its order.
    """

    recipe: Recipe
    tempo: float | None = None
    dry: bool = False
    windows: tuple[WindowMeta, ...] = ()

    def source(self, item: int) -> WindowMeta | None:
        """The window that an item is a variation of."""
        match self.recipe.origin:
            case LikeWindows() as like:
                return self.windows[like.window_of(item)]
            case _:
                return None

    def tempo_of(self, trained: TrainedModel, item: int) -> float:
        """Quarter notes per minute of an item."""
        if self.tempo is not None:
            return self.tempo
        source = self.source(item)
        return source.tempo if source else trained.feel.tempo

    def feel(self, trained: TrainedModel) -> GrooveFeel:
        """Velocity and timing of the items."""
        return trained.feel.plain() if self.dry else trained.feel

    def settings(self) -> dict[str, Any]:
        """All that decides an item, in plain values: outputs of different ones are never mixed."""
        match self.recipe.origin:
            case FromPrior():
                origin: dict[str, Any] = {"origin": "prior"}
            case LikeWindows(mu=mu, distance=distance):
                codes = hashlib.sha256(mu.tobytes()).hexdigest()[:12]
                files = sorted({window.source for window in self.windows})
                origin = {"origin": "like", "distance": distance, "like": files, "codes": codes}
        own = {"seed": self.recipe.seed, "temperature": self.recipe.temperature, "tempo": self.tempo, "dry": self.dry}
        return origin | own


def default_model(options: SampleOptions) -> str:
    """The shipped model that is best at what is asked for."""
    return "generation" if options.like is None else "reconstruction"


def recipe_of(options: SampleOptions, trained: TrainedModel) -> SampleRecipe:
    """What the options ask of a model.

    Raises:
        ConfigError: a file that cannot be read, or a model that has no latent space.
        DataError: a file without drums that the model could take.
    """
    if options.like is None:
        recipe = Recipe(FromPrior(), options.seed, 1.0 if options.temperature is None else options.temperature)
        return SampleRecipe(recipe, options.tempo, options.dry)
    windows = windows_of_file(Path(options.like), trained.grid, trained.drum_map)
    distance = DEFAULT_DISTANCE if options.distance is None else options.distance
    origin = LikeWindows(trained.encode(windows.tokens), distance)
    recipe = Recipe(origin, options.seed, options.temperature)
    return SampleRecipe(recipe, options.tempo, options.dry, tuple(windows.meta))
