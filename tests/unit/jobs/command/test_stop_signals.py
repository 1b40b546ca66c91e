"""Signals, deadlines and lost parents as plain facts."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from jobs.command.stop_signals import HANDLED, StopSignals, parse_time
from musicvae.errors import ConfigError


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "launched", "heard"),
    [
        (signal.SIGUSR2, False, (True, False, False)),
        (signal.SIGTERM, False, (True, False, False)),
        (signal.SIGHUP, False, (True, False, False)),
        (signal.SIGINT, False, (False, True, False)),
        (signal.SIGUSR2, True, (True, False, False)),
        (signal.SIGTERM, True, (False, False, True)),
    ],
)
def test_who_asks(number, launched, heard):
    signals = StopSignals(launched=launched)
    signals.listen()
    assert not signals.any
    os.kill(os.getpid(), number)
    assert (signals.scheduler, signals.user, signals.restart) == heard
    assert signals.any


def test_a_second_ctrl_c_is_not_held_back():
    StopSignals().listen()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_deadline_and_a_lost_agent_are_the_schedulers_wish():
    signals = StopSignals()
    signals.stop_at(time.time() + 3600)
    assert not signals.any
    signals.stop_at(time.time() - 1)
    assert signals.any
    assert signals.scheduler
    assert not StopSignals(agent=os.getppid()).any
    assert StopSignals(agent=os.getppid() + 1).any


def test_times(monkeypatch):
    assert parse_time("1800000000") == 1800000000
    assert parse_time("2027-01-15T08:00:00+00:00") == 1800000000
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1800000000")
    assert parse_time("slurm") == 1800000000
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    with pytest.raises(ConfigError, match="SLURM_JOB_END_TIME"):
        parse_time("slurm")
    with pytest.raises(ConfigError, match="not a time"):
        parse_time("tea time")


def test_a_deadline_that_leaves_no_time_is_refused():
    StopSignals().stop_ahead(time.time() + 100, 60)
    with pytest.raises(ConfigError, match=r"--stop-before leaves no time(.|\n)*minus the margin, 10 s ago"):
        StopSignals().stop_ahead(time.time() + 50, 60)
