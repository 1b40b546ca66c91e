"""The torchrun agent of one node, started by `jobs.train --ranks`: torchrun without its wall of text.

What it has to say goes to RUN/logs; why a rank failed is told by the rank itself, in RUN/ranks.
"""

import logging
import os
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args
from torch.distributed.run import run as run_agent

from jobs.training.environment import LOG_VARIABLE


def main() -> int:
    """Runs the agent with torchrun's own flags; 0 if all ranks succeeded."""
    logger = logging.getLogger("torch")
    for name in ["torch", *(name for name in logging.root.manager.loggerDict if name.startswith("torch."))]:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "torch"
    file = logging.FileHandler(os.environ.pop(LOG_VARIABLE))
    file.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(file)
    try:
        run_agent(parse_args(sys.argv[1:]))
    except (ChildFailedError, SignalException) as error:
        logger.error("%s", error)
        return 1
    except Exception:
        logger.exception("the agent failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
