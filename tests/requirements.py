"""What a test does where something that it needs is not there."""

import os

import pytest


def skip_or_fail(reason: str) -> None:
    """Skips where a newcomer lacks something; fails where REQUIRE_ALL says that everything must be there."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set: {reason}")
    pytest.skip(reason)
