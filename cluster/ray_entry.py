"""What a Ray Job runs on the cluster's head: the jobs of a submission, one after the other.

python -m cluster.ray_entry SUBMISSION NUMBER
"""

import sys
from pathlib import Path

from cluster.local import run_here
from cluster.submission import read_submission


def main() -> int:
    """Runs what is not done."""
    folder, number = sys.argv[1:]
    submission = read_submission(Path(folder))
    everything = {job.name: job.elements for job in submission.jobs}  # what is done says so when it is begun
    return run_here(submission, everything, number, lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
