"""A page about a run, or several side by side: python -m jobs.report runs/demo [runs/other ... --out page.html]"""

from pathlib import Path

import typer

from jobs.command.command_line import console, run_command
from jobs.run_report.page import report_page
from jobs.run_report.record import RunRecord, read_run
from musicvae.durable import write_whole
from musicvae.errors import ConfigError

PAGE_NAME = "report.html"


def main(
    runs: list[Path] = typer.Argument(..., metavar="RUN...", help="Run folders, in any state."),
    out: Path | None = typer.Option(None, metavar="FILE.html", help=f"The page to write (one run: RUN/{PAGE_NAME})."),
) -> None:
    """Write one self-contained HTML page from run folders alone: curves, grids, latent space, settings, history."""
    if out is None:
        if len(runs) > 1:
            raise ConfigError("a page about several runs needs a name", do="add --out FILE.html")
        out = runs[0] / PAGE_NAME
    records = [read_run(path, number, name) for number, (path, name) in enumerate(zip(runs, names(runs), strict=True))]
    try:
        write_whole(out, report_page(records))
    except OSError as error:
        raise ConfigError(
            f"cannot write {out}",
            expected="a file in a folder that exists",
            found=error.strerror or str(error),
            do="name another --out",
        ) from None
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


def tell(run: RunRecord) -> None:
    """One line about a run, and what of it could not be read."""
    best = run.metrics.best
    loss = f", best −ELBO {best['validation.negative_elbo']:.2f} at step {best['step']:,}" if best else ""
    console.print(f"{run.name}: {run.state}, step {run.step:,}{loss}", soft_wrap=True)
    for note in run.notes:
        console.print(f"  note: {note}", soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
