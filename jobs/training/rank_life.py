"""One rank from its first breath to its last word: signs of life, log, and why it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.command.stop_signals import told_of_suspension
from jobs.training.environment import attempt, launch_id, launched_by, own_rank, world_size
from jobs.training.failures import category_of, gave_up_waiting, is_secondary, message_of
from jobs.training.rank_logs import log_to_file
from musicvae.errors import StoppedError
from musicvae.training.heartbeat import Heartbeat
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder


@contextmanager
def rank_life(run: Path | None) -> Iterator[Heartbeat]:
    """Gives the rank's heartbeat; writes down what ends the block by an error.

    It starts at once where our launcher has opened the run folder, so that what happens before the ranks have
    met is known too; otherwise when the run is held: a command that is refused leaves a run folder as it was.
    """
    folder = RunFolder(run or Path())
    heartbeat = Heartbeat(
        RankRecords(folder.ranks), rank=own_rank(), world_size=world_size(), launch_id=launch_id(), attempt=attempt()
    )
    if launched_by() and folder.config.exists():
        log_to_file(folder.path, rank=heartbeat.rank, launch_id=heartbeat.launch_id, attempt=heartbeat.attempt)
        heartbeat.start()
    with told_of_suspension(heartbeat.suspend, heartbeat.resume), failures_recorded(heartbeat, folder):
        yield heartbeat


@contextmanager
def failures_recorded(heartbeat: Heartbeat, folder: RunFolder) -> Iterator[None]:
    """Writes down what ends the block by an error, and ends the heartbeat."""
    try:
        yield
    except (StoppedError, SystemExit):
        raise
    except BaseException as error:
        if heartbeat.started:
            message, traceback = message_of(error)
            secondary = is_secondary(error)
            gave_up = secondary and gave_up_waiting(error)
            heartbeat.fail(category_of(error), message, traceback=traceback, secondary=secondary, gave_up=gave_up)
        raise
    finally:
        heartbeat.stop()
