"""What many ranks cost beside the work: python -m tests.benchmarks.many_ranks [--ranks 64] [--nodes 8]

Ranks on this machine that do nothing but what ranks do together: they meet, write heartbeats, agree on whether to stop,
and are watched by one launcher for each simulated node. A turn is a pause of --turn seconds instead of a step. Three
kinds of turns are interleaved: without agreement, with a round in each, and with rounds as a training has them.

All are forked from one process, so that start-up is that of the group, not of Python. Opened files are counted where
they are opened, by an audit hook.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.torchrun import Group
from jobs.training.torchrun import LOOK_SECONDS, LaunchWatch
from musicvae.training.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder
from musicvae.training.stopping import Stop, StopAgreement
from musicvae.training.world import Meeting, World

LAUNCH = "many-ranks"
TIMEOUT = timedelta(minutes=5)
KINDS = ("no agreement", "a round in each turn", "rounds as in training")
Rounds = Callable[[int, int], Callable[[], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What each rank does.

    Attributes:
        folder: of the run, and of the file in which the ranks meet.
        turn_seconds: that each turn takes beside the agreement.
        turns: of a kind in a row; repeats: how often each kind comes.
    """

    folder: Path
    ranks: int
    nodes: int
    turn_seconds: float
    turns: int
    repeats: int

    def of_node(self, node: int) -> range:
        """The ranks of a node."""
        return range(self.ranks * node // self.nodes, self.ranks * (node + 1) // self.nodes)


class OpenedRecords:
    """How often this process has opened a file of RUN/ranks since it was made."""

    def __init__(self) -> None:
        self.count = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and "/ranks/rank-" in str(arguments[0]):
            self.count += 1


def main() -> None:
    """Prints start-up, the price of a turn of each kind, and opened files a second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--turn", type=float, default=0.03, help="seconds")
    parser.add_argument("--turns", type=int, default=100, help="of a kind in a row")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(Path(folder), arguments.ranks, arguments.nodes, arguments.turn, arguments.turns, arguments.repeats)
        (plan.folder / "ranks").mkdir()
        fork = get_context("fork")
        figures = fork.SimpleQueue()
        began = time.monotonic()
        processes = [fork.Process(target=run_rank, args=(plan, rank, began, figures)) for rank in range(plan.ranks)]
        processes += [
            fork.Process(target=run_launcher, args=(plan, node, figures), daemon=True) for node in range(plan.nodes)
        ]
        for process in processes:
            process.start()
        written = [figures.get() for _ in range(plan.ranks)]
        print(table(plan, written, [figures.get() for _ in range(plan.nodes)]))
        for process in processes:
            process.join()


def run_rank(plan: Plan, rank: int, began: float, figures: Any) -> None:
    """Meets the others, makes all turns, and gives seconds until all were there, seconds of turns, and opened files."""
    opened = OpenedRecords()
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(plan.ranks), "GLOO_SOCKET_IFNAME": "lo"}
    (neighbours,) = (ranks for node in range(plan.nodes) if rank in (ranks := plan.of_node(node)))
    heartbeat = Heartbeat(
        RankRecords(plan.folder / "ranks"),
        rank=rank,
        world_size=plan.ranks,
        launch_id=LAUNCH,
        attempt=0,
        neighbours=neighbours,
    )
    heartbeat.start()
    meeting = Meeting.in_file(plan.folder / "meeting", TIMEOUT)
    world = World.join(meeting, device=torch.device("cpu"), timeout=TIMEOUT)
    world.sum(np.ones(1))
    start_up = time.monotonic() - began
    since, before = time.monotonic(), opened.count
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(plan.repeats):
        for kind in KINDS:
            world.sum(np.ones(1))
            seconds[kind].append(turns(plan, kind, world, heartbeat))
    rate = (opened.count - before) / (time.monotonic() - since)
    figures.put((rank, start_up, seconds, rate))
    world.sum(np.ones(1))
    heartbeat.stop()
    (plan.folder / "over").touch()
    world.leave()


def turns(plan: Plan, kind: str, world: World, heartbeat: Heartbeat) -> float:
    """Seconds of a turn of one kind."""
    rounds: Rounds = partial(_each_turn, world) if kind == KINDS[1] else world.start_agreement
    agreement = StopAgreement(rounds, lambda: Stop.GO_ON)
    began = time.monotonic()
    for turn in range(plan.turns):
        heartbeat.beat(turn, "training")
        time.sleep(plan.turn_seconds)
        if kind != KINDS[0]:
            agreement.agreed()
            agreement.ask()
    agreement.agreed()
    return (time.monotonic() - began) / plan.turns


def _each_turn(world: World, stop: int, pause: int) -> Callable[[], tuple[int, int]]:
    return world.start_agreement(stop, min(pause, 1))


def run_launcher(plan: Plan, node: int, figures: Any) -> None:
    """Watches the ranks of a node until the ranks have ended; gives its opened files a second."""
    opened = OpenedRecords()
    here = plan.of_node(node)
    starts, agent = socket.socketpair()
    starts.setblocking(False)
    agent.send(f"0 {here.start} {len(here)}\n".encode())
    group = Group(len(here), plan.nodes, plan.nodes, "nowhere:1", LAUNCH, 9)
    watch = LaunchWatch(RunFolder(plan.folder), group, 3, starts)
    began = time.monotonic()
    while not (plan.folder / "over").exists():
        watch.look()
        time.sleep(LOOK_SECONDS)
    figures.put(opened.count / (time.monotonic() - began))


def table(plan: Plan, ranks: list[tuple[int, float, dict[str, list[float]], float]], launchers: list[float]) -> str:
    """What is printed."""
    rows = [f"{plan.ranks} ranks of {plan.nodes} nodes, turns of {1000 * plan.turn_seconds:.0f} ms"]
    rows.append(f"start-up, until all have summed one number   {max(start for _, start, _, _ in ranks):8.2f} s")
    (of_main,) = (seconds for rank, _, seconds, _ in ranks if rank == 0)
    bare = of_main[KINDS[0]]
    for kind in KINDS:
        added = [1000 * (turn - without) for turn, without in zip(of_main[kind], bare, strict=True)]
        rows.append(
            f"a turn, {kind:<24} {1000 * statistics.median(of_main[kind]):8.2f} ms, "
            f"{statistics.median(added):+.2f} ({min(added):+.2f} to {max(added):+.2f}) of it the agreement"
        )
    rows.append(f"opened files a second, each rank             {statistics.mean(rate for *_, rate in ranks):8.2f}")
    rows.append(f"opened files a second, each launcher         {statistics.mean(launchers):8.2f}")
    rows.append(f"opened files a second, all                   {sum(r for *_, r in ranks) + sum(launchers):8.0f}")
    rows.append(f"(heartbeats every {HEARTBEAT_SECONDS:g} s, launchers look every {LOOK_SECONDS:g} s)")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
