"""Freed memory is kept: the same block taken again costs no page faults."""

import os
import subprocess
import sys

import pytest

TAKE_TWICE = """
import resource
from musicvae.kept_memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (64 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""
PAGES = (64 << 20) // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="needs glibc")
def test_a_block_taken_again_is_not_mapped_again() -> None:
    assert faults_of_the_last_block(keep=True) < PAGES / 100
    assert faults_of_the_last_block(keep=False) > PAGES / 600  # as many as that even with huge pages


def faults_of_the_last_block(*, keep: bool) -> int:
    code = TAKE_TWICE.format(keep=keep)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
