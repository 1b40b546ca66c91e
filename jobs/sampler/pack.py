"""Grooves packed: WebDataset tars, or one zip; the same bytes for the same grooves.

grooves-00000.tar   up to 10,000 samples each, a sample is groove-00000.mid and groove-00000.json (its manifest line)
grooves.zip         000/groove-00000.mid ..., as the files would lie in a folder

With --audio each groove has its loop of sound, .wav or .flac, beside its .mid.
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from jobs.sampler.job import MIDI_SUFFIX
from jobs.sampler.settings import OutputFormat

SAMPLES_PER_TAR = 10_000
ZIP = "grooves.zip"


class Pack(Protocol):
    """Takes grooves in the order of the manifest."""

    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        """A groove: the path of its MIDI file, what its files hold by suffix, and its manifest line.

        Raises:
            OSError: it cannot be written.
        """
        ...


@contextmanager
def packing(output_format: OutputFormat, folder: Path) -> Iterator[Pack]:
    """What packs grooves into a folder, or lets them be."""
    match output_format:
        case OutputFormat.TAR:
            tars = _Tars(folder)
            try:
                yield tars
            finally:
                tars.close()
        case OutputFormat.ZIP:
            with zipfile.ZipFile(folder / ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
                yield _Zip(archive)
        case _:
            yield _Nothing()


def tar_name(number: int) -> str:
    """The name of a tar, counted from 0."""
    return f"grooves-{number:05d}.tar"


class _Tars:
    def __init__(self, folder: Path) -> None:
        self._folder, self._samples = folder, 0
        self._tar: tarfile.TarFile | None = None

    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        if self._tar is None or self._samples % SAMPLES_PER_TAR == 0:
            self.close()
            path = self._folder / tar_name(self._samples // SAMPLES_PER_TAR)
            self._tar = tarfile.TarFile(path, "w", format=tarfile.USTAR_FORMAT)
        name = Path(file).stem
        for suffix, data in {**contents, ".json": line.rstrip("\n").encode()}.items():
            member = tarfile.TarInfo(name + suffix)
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._samples += 1

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        for suffix, data in contents.items():
            # Without a date of its own a member has the first one that zip knows. Sound hardly gets any smaller: by a
            # sixth for WAV, which takes five times as long as making it.
            method = zipfile.ZIP_DEFLATED if suffix == MIDI_SUFFIX else zipfile.ZIP_STORED
            self._archive.writestr(zipfile.ZipInfo(str(Path(file).with_suffix(suffix))), data, method)


class _Nothing:
    def add(self, file: str, contents: Mapping[str, bytes], line: str) -> None:
        pass
