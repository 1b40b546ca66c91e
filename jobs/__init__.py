"""What a person runs: `python -m jobs.<name>`. The only package that sees all the others."""

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The folder that holds our packages: a clone, the copy that a submission keeps, or what Ray unpacked on a node."""

# `cluster` and `preprocess` are names that other distributions own: an installed one would be imported in silence.
for _name in ("musicvae", "preprocess", "cluster"):
    _spec = find_spec(_name)
    _origin = Path(_spec.origin).resolve() if _spec and _spec.origin else None
    if _origin is None or CHECKOUT not in _origin.parents:
        raise ImportError(
            f"package {_name!r} resolves to {_origin or 'nothing'}, expected it under {CHECKOUT}; "
            f"uninstall the distribution that owns it, or run from the checkout after `make install`"
        )

# Only a command sets these, not a program that imports `jobs`: `sys.argv[0]` is "-m" while Python looks for the module
# of `python -m jobs.NAME`.
if sys.argv[:1] == ["-m"]:
    # Libraries make half a million objects as they load, which stay. By default Python looks through them again and
    # again meanwhile, for a third of a second.
    gc.set_threshold(20_000)
    # libgomp reads it as torch loads: how often threads that wait for each other spin before they sleep. This is its
    # own number where it knows that threads outnumber cores; of other processes it knows nothing, and spins 300 times
    # longer.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
