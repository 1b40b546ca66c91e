"""The torchrun agent that a launch starts: what it does about a signal that torch loses."""

import signal

import pytest
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import api
from torch.distributed.elastic.multiprocessing.api import SignalException

from jobs.training.torchrun_agent import remember_signals


class DestroyedLate:
    """In its destructor a signal arrives, as it can in any destructor."""

    def __del__(self) -> None:
        api._terminate_process_handler(signal.SIGUSR2, None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_came_in_a_destructor_ends_the_agent_at_its_next_look(monkeypatch):
    monkeypatch.setattr(api, "_terminate_process_handler", api._terminate_process_handler)
    monkeypatch.setattr(LocalElasticAgent, "_monitor_workers", lambda agent, group: "looked")
    remember_signals()
    agent = LocalElasticAgent.__new__(LocalElasticAgent)
    assert agent._monitor_workers(None) == "looked"
    late = DestroyedLate()
    del late
    with pytest.raises(SignalException) as raised:
        agent._monitor_workers(None)
    assert raised.value.sigval == signal.SIGUSR2


def test_a_second_signal_does_not_interrupt_what_the_first_began(monkeypatch):
    monkeypatch.setattr(api, "_terminate_process_handler", api._terminate_process_handler)
    monkeypatch.setattr(LocalElasticAgent, "_monitor_workers", lambda agent, group: "looked")
    remember_signals()
    with pytest.raises(SignalException):
        api._terminate_process_handler(signal.SIGUSR2, None)
    api._terminate_process_handler(signal.SIGUSR2, None)
