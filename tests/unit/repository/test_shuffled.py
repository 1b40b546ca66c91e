"""The order of tests comes from a seed."""

from types import SimpleNamespace

from tests.support.layers.shuffled import DRAWN, pytest_collection_modifyitems, pytest_configure, pytest_report_header

PLAIN = [f"tests/test_{file}.py::test_{number}" for file in "abc" for number in range(20)]


def config_of(seed: str | None) -> SimpleNamespace:
    return SimpleNamespace(option=SimpleNamespace(shuffle=seed))


def order(seed: str | None) -> list[str]:
    items = [SimpleNamespace(nodeid=name) for name in PLAIN]
    pytest_collection_modifyitems(config_of(seed), items)  # type: ignore[arg-type]
    return [item.nodeid for item in items]


def test_a_seed_gives_an_order_again_that_keeps_files_together():
    assert order("3") == order("3")
    assert order(None) == PLAIN
    assert len({tuple(order(seed)) for seed in ("1", "2", "3", None)}) == 4
    for seed in "123":
        assert sorted(order(seed)) == sorted(PLAIN)
        files = [name.partition("::")[0] for name in order(seed)]
        assert sum(file != before for file, before in zip(files[1:], files, strict=False)) == 2
    assert len({name.partition("::")[0] for name in (order(str(seed))[0] for seed in range(9))}) > 1, "files too"


def test_a_drawn_seed_is_told():
    config = config_of(DRAWN)
    pytest_configure(config)  # type: ignore[arg-type]
    assert config.option.shuffle.isdigit()
    assert pytest_report_header(config) == f"order of tests: --shuffle {config.option.shuffle}"  # type: ignore[arg-type]
    assert pytest_report_header(config_of(None)) is None  # type: ignore[arg-type]
