"""What a groove can be moved along in the latent space, each by a name: density, syncopation, fill, a drum's share.

Every value is one of `musicvae.groove.groove_features`; of a window without hits all are 0.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from musicvae.groove.grid import GridSpec
from musicvae.groove.groove_features import drum_shares, fill, hits_per_bar, syncopation

OF_THE_WHOLE_KIT = ("density", "syncopation", "fill")


def attribute_names(drums: Sequence[str]) -> tuple[str, ...]:
    """The names in order: those of the whole kit, then each drum class, whose attribute is its share of the hits."""
    return (*OF_THE_WHOLE_KIT, *drums)


def measure_attributes(
    hits: Bool[np.ndarray, "window step drum"], grid: GridSpec, drums: Sequence[str]
) -> Float64[np.ndarray, "window attribute"]:
    """The attributes of each window, in the order of `attribute_names`.

    density: hits a bar. syncopation: Longuet-Higgins and Lee 1984, a bar. fill: share of beats. Drums: share of hits.
    """
    of_kit = [hits_per_bar(hits, grid), syncopation(hits, grid), fill(hits, grid, drums)]
    return np.column_stack([*of_kit, drum_shares(hits)])
