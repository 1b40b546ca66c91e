"""`--shuffle SEED` runs the test files, and the tests of each file, in another order; without a seed it draws one.

A test that needs what another one left fails in some orders. The header prints the seed, which gives the order again.
"""

import random

import pytest

DRAWN = "drawn"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", nargs="?", const=DRAWN, metavar="SEED", help="shuffle test files and their tests")


def pytest_configure(config: pytest.Config) -> None:
    # Drawn before other processes start, which get the options of this one.
    if config.option.shuffle == DRAWN:
        config.option.shuffle = str(random.SystemRandom().randrange(1_000_000))


def pytest_report_header(config: pytest.Config) -> str | None:
    return f"order of tests: --shuffle {config.option.shuffle}" if config.option.shuffle else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.shuffle:
        return
    chance = random.Random(config.option.shuffle)
    by_file: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.nodeid.partition("::")[0], []).append(item)
    files = list(by_file.values())
    chance.shuffle(files)
    for tests in files:
        chance.shuffle(tests)
    items[:] = [item for tests in files for item in tests]
