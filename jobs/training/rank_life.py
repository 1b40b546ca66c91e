"""One rank from its first breath to its last word: signs of life, log, and why it ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.command.stop_signals import told_of_suspension
from jobs.training.environment import attempt, launch_id, launcher, own_rank, world_size
from jobs.training.failures import category_of, is_secondary, message_of
from jobs.training.rank_logs import log_to_file
from musicvae.errors import StoppedError
from musicvae.training.heartbeat import Pulse
from musicvae.training.rank_records import RankRecords
from musicvae.training.run_folder import RunFolder


@contextmanager
def rank_life(run: Path | None) -> Iterator[Pulse]:
    """Gives the rank's pulse; writes down what ends the block by an error.

    The pulse starts at once where our launcher has opened the run folder, so that what happens before the ranks have
    met is known too; otherwise when the run is held: a command that is refused leaves a run folder as it was.
    """
    folder = RunFolder(run or Path())
    pulse = Pulse(
        RankRecords(folder.ranks), rank=own_rank(), world_size=world_size(), launch=launch_id(), attempt=attempt()
    )
    if launcher() and folder.config.exists():
        log_to_file(folder.path, rank=pulse.rank, launch=pulse.launch, attempt=pulse.attempt)
        pulse.start()
    with told_of_suspension(pulse.suspend, pulse.resume), failures_recorded(pulse, folder):
        yield pulse


@contextmanager
def failures_recorded(pulse: Pulse, folder: RunFolder) -> Iterator[None]:
    """Writes down what ends the block by an error, and ends the pulse."""
    try:
        yield
    except (StoppedError, SystemExit):
        raise
    except BaseException as error:
        if pulse.started:
            message, traceback = message_of(error)
            pulse.fail(category_of(error), message, traceback=traceback, secondary=is_secondary(error))
        raise
    finally:
        pulse.stop()
