"""Tests here run commands as they ship, without the checks of shapes that unit tests have."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def as_shipped(without_shape_checks: None) -> None:
    pass
