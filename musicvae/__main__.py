"""`python -m musicvae`: the command where it is not on the PATH."""

import sys

from musicvae.command_line import main

if __name__ == "__main__":
    sys.exit(main())
