"""The models that come with the package, for tests that need them."""

import pytest

import musicvae

SHIPPED = ("generation", "reconstruction")


def need_shipped_models() -> None:
    """Skips where there are none: the weights are trained last."""
    if missing := set(SHIPPED) - set(musicvae.shipped_models()):
        pytest.skip(f"musicvae/weights lacks {', '.join(sorted(missing))}")
