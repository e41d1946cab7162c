"""Command line: ``python -m simulations list | run STUDY | report DIR``."""

import sys
from pathlib import Path
from typing import Annotated

import joblib
import typer
from rich.console import Console

from simulations import runner
from simulations.manifest import Plan, ResultsError
from simulations.progress import progress
from simulations.report import Report
from simulations.store import Store, open_store
from simulations.study import Preset, Study, discover

app = typer.Typer(help="Run simulation studies and report on them.", add_completion=False, no_args_is_help=True)


@app.callback()
def _main(
    context: typer.Context,
    studies: Annotated[str, typer.Option(help="Package whose modules are the studies.")] = "simulations.studies",
) -> None:
    context.obj = discover(studies)


@app.command("list")
def list_studies(context: typer.Context) -> None:
    """List the studies."""
    for name, study in context.obj.items():
        _console().print(f"{name}  {study.summary}", highlight=False)


@app.command()
def run(
    *,
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    preset: Annotated[Preset, typer.Option(help="Size of the study.")] = Preset.QUICK,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the default is one a core.")] = joblib.cpu_count(),
    out: Annotated[Path | None, typer.Option(help="Results directory; the default is results/STUDY-PRESET.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the study.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the directory.")] = False,
) -> None:
    """Run a study, store its table, and report: exit code 1 if a claim fails, 2 on an error."""
    found = _study(context, study)
    directory = out or Path("results") / f"{study}-{preset}"
    try:
        with open_store(directory, Plan(study, preset, seed, found.cells(preset)), resume=resume) as store:
            with progress(study, store.missing(), _console()) as on_done:
                runner.run(found, store, workers=workers, on_done=on_done)
            _report(found, store, save=True)
    except KeyboardInterrupt:
        _console().print(f"Stopped. Finished batches are in {directory}: repeat the command with --resume.")
        raise typer.Exit(130) from None
    except (ResultsError, runner.BatchError) as error:
        raise _refusal(error) from error


@app.command()
def report(context: typer.Context, directory: Annotated[Path, typer.Argument(help="Results directory.")]) -> None:
    """Report on a stored table: exit code 1 if a claim fails, 2 on an error."""
    try:
        store = Store.read(directory)
        _report(_study(context, store.plan.study), store, save=False)
    except ResultsError as error:
        raise _refusal(error) from error


def _report(study: Study, store: Store, *, save: bool) -> None:
    found = Report.of(study, store)
    if save:
        found.save(store)
    found.show(_console())
    if found.failed:
        raise typer.Exit(1)


def _study(context: typer.Context, name: str) -> Study:
    if name not in context.obj:
        raise typer.BadParameter(f"no study {name!r}; there are: {', '.join(context.obj) or 'none'}")
    return context.obj[name]


def _refusal(error: Exception) -> typer.Exit:
    Console(stderr=True, soft_wrap=True).print(f"error: {error}", highlight=False, markup=False)
    return typer.Exit(2)


def _console() -> Console:
    """Return a console on standard output; a file has no width to fit, so tables keep theirs there."""
    return Console(width=None if sys.stdout.isatty() else 180)


if __name__ == "__main__":
    app()
