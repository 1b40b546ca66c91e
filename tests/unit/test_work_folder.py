"""What processes that work on one folder from several nodes make sure of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from preprocess.work_folder import WorkFolder, check_shared


class Nodes:
    """A runner whose only node is this one, and does something else first."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self._before = before

    def __call__(self, function: Any, tasks: Any) -> Any:
        raise NotImplementedError

    def on_every_node(self, function: Callable[[], Any]) -> list[tuple[str, Any]]:
        self._before()
        return [("here", function())]


def test_two_writers_of_a_machine_may_look_at_the_same_moment(tmp_path: Path):
    work = WorkFolder(tmp_path)
    check_shared(Nodes(before=lambda: check_shared(Nodes(), work, [])), work, [])
    assert list(tmp_path.iterdir()) == []
