"""Writes a page about a run, or several side by side: python -m jobs.report runs/demo [... --out page.html]"""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jobs.command.command_line import console, end_of_checks, run_command
from jobs.command.mirror import SyncTo, check_urls, mirrored
from jobs.command.paths import check_output_file
from musicvae.durable import write_whole
from musicvae.errors import ConfigError
from musicvae.training.run_folder import RunFolder
from musicvae.training.settings import MAIN_FIGURES, main_figure

if TYPE_CHECKING:  # numpy, which a login node need not have
    from jobs.run_report.record import RunRecord

PAGE_NAME = "report.html"


def main(
    runs: list[Path] = typer.Argument(..., metavar="RUN", help="Run folders: running, finished or failed."),
    out: Path | None = typer.Option(
        None, metavar="FILE.html", help=f"The page to write; needed for several runs (RUN/{PAGE_NAME})."
    ),
    sync_to: SyncTo = None,
) -> None:
    """Write one HTML page about a run, or several side by side.

    The page shows learning curves, drum grids, the use of the latent space, settings and history. It needs only the run
    folders and opens without a server.

        python -m jobs.report runs/first runs/second --out comparison.html
    """
    check_urls(sync_to=sync_to)
    if sync_to and (out or len(runs) > 1):
        raise ConfigError(
            "--sync-to copies a run with its page",
            expected="one run, without --out",
            do="leave --sync-to out, or make the page of one run",
        )
    if out is None:
        if len(runs) > 1:
            raise ConfigError("a page about several runs needs a file name", do="add --out FILE.html")
        out = runs[0] / PAGE_NAME
    named = list(zip(runs, names(runs), strict=True))
    for run in runs:
        RunFolder(run).read_config()
    check_output_file(out)
    end_of_checks()
    from jobs.run_report.page import report_page
    from jobs.run_report.record import read_run

    records = [read_run(path, number, name) for number, (path, name) in enumerate(named)]
    with mirrored(runs[0], sync_to, skipped=("ranks",)):
        write_whole(out, report_page(records, out.parent))
    for record in records:
        tell(record)
    console.print(f"page: {out.resolve()}", soft_wrap=True)


def names(runs: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart.

    Raises:
        ConfigError: a run is given twice.
    """
    resolved = [run.resolve() for run in runs]
    if len(set(resolved)) < len(resolved):
        raise ConfigError("a run is given twice", found=", ".join(map(str, runs)), do="name each run once")
    for length in range(1, max(len(path.parts) for path in resolved) + 1):
        ends = ["/".join(path.parts[-length:]) for path in resolved]
        if len(set(ends)) == len(ends):
            return ends
    raise AssertionError("different paths differ somewhere")


def tell(run: "RunRecord") -> None:
    """One line about a run, and what of it could not be read."""
    best = run.metrics.best
    figure = main_figure(best)
    loss = f", best {MAIN_FIGURES[figure][0]} {best[figure]:.2f} at step {best['step']:,}" if figure else ""
    console.print(f"{run.name}: {run.state}, step {run.step:,}{loss}", soft_wrap=True)
    for note in run.notes:
        console.print(f"  note: {note}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
