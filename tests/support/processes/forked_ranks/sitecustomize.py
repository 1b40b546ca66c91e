"""On PYTHONPATH: the torchrun agents of a command fork their ranks."""

import tests.support.processes.forking_agent  # noqa: F401 - it acts where the process is an agent
