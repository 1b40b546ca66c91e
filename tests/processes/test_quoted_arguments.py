"""Arguments in scripts, read by a real bash."""

import shlex
import subprocess
import sys
from pathlib import PurePath

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.job import Job, Word
from cluster.sbatch import Place, quoted, render
from cluster.site import Site
from tests.support.harm.odd_words import ODD_WORDS, odd_words

PRINT = "import sys; sys.stdout.buffer.write(b'\\0'.join(a.encode(errors='surrogateescape') for a in sys.argv[1:]))"


def read_by_bash(script: str) -> list[str]:
    """The arguments that a script gave to `PRINT`."""
    printed = subprocess.run(
        ["bash", "-u"], input=script.encode(errors="surrogateescape"), capture_output=True, check=True
    )
    return printed.stdout.decode(errors="surrogateescape").split("\0")


@settings(max_examples=60, deadline=None)
@given(st.lists(odd_words(), min_size=1, max_size=20))
def test_every_argument_arrives_unchanged(words):
    script = " ".join([shlex.quote(sys.executable), "-c", quoted(PRINT), *map(quoted, words)])
    assert read_by_bash(script) == words


def test_the_odd_ones_arrive_unchanged_in_the_command_of_a_script():
    """The words that break scripts, in a rendered script of which only the command is run."""
    job = Job("odd", (sys.executable, "-c", PRINT, *ODD_WORDS, Word.SHARE))
    script = render(job, Site(), Place(PurePath("/s/odd"), PurePath("/s/odd/code"), PurePath("/")))
    command = script[script.index("command=(") :].partition("\n)\n")[0]
    assert read_by_bash(f'element=3\n{command}\n)\n"${{command[@]}}"\n') == [*ODD_WORDS, "3/1"]
