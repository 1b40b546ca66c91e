"""What a test does where something that it needs is not there, or time."""

import os

import pytest

from tests.support.commands import SOAK

only_in_a_soak = pytest.mark.skipif(not SOAK, reason="another test covers most of it in less time: `make soak` runs it")


def skip_or_fail(reason: str) -> None:
    """Skips where a newcomer lacks something; fails where REQUIRE_ALL says that everything must be there."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set: {reason}")
    pytest.skip(reason)
