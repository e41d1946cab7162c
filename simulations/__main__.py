"""Command line: ``python -m simulations list | run | verify | report | merge``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from simulations import options, page, runner
from simulations.executors import Execute
from simulations.manifest import Plan, ResultsError
from simulations.merge import merge, shard
from simulations.precision import Target, rounds, whole_batches
from simulations.progress import progress
from simulations.report import Report
from simulations.store import Store, open_store
from simulations.study import Preset, Study, discover, presets
from simulations.verify import complete, verify

app = typer.Typer(help="Run simulation studies and report on them.", add_completion=False, no_args_is_help=True)


class Packages(NamedTuple):
    """What the command line knows: the studies, and the name of the package that draws them."""

    studies: dict[str, Study]
    figures: str


@app.callback()
def _main(
    context: typer.Context,
    studies: Annotated[str, typer.Option(help="Package whose modules are the studies.")] = "simulations.studies",
    figures: Annotated[str, typer.Option(help="Module whose draw_all draws the figures.")] = "paper_figures.gallery",
) -> None:
    context.obj = Packages(discover(studies), figures)


@app.command("list")
def list_studies(context: typer.Context) -> None:
    """List the studies."""
    for name, study in context.obj.studies.items():
        _console().print(f"{name}  {study.summary}", highlight=False)


@app.command()
def run(
    *,
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name of the study.")],
    preset: options.PresetOption = Preset.QUICK,
    workers: options.Workers = options.ALL_CORES,
    scheduler: options.Scheduler = None,
    dask_local: options.DaskLocal = None,
    device: options.Device = "cpu",
    out: options.Out = None,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    share: Annotated[str | None, typer.Option("--shard", help="I/N: run the I-th of N shares, to be merged.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="Add replicates until no interval of the verdicts is wider than this.")
    ] = None,
    budget: Annotated[str, typer.Option(help="With --precision: no new round after this time, 90s, 20m, 2h.")] = "1h",
    report_: Annotated[bool, typer.Option("--report", help="Also write what the command report writes.")] = False,
) -> None:
    """Run a study, store its table and print the verdicts: exit code 1 if a claim fails, 2 on an error."""
    found = options.placed(_study(context, study), device)
    if preset not in presets(found):
        raise typer.BadParameter(f"study {study!r} has no preset {preset}; it has {', '.join(presets(found))}")
    directory = out or Path("results") / f"{study}-{preset}"
    part, target = options.share(share), _target(precision, budget)
    if part and (target or report_):
        raise typer.BadParameter("--precision and --report read whole tables: leave out --shard, report after merge")
    plan = Plan(study, preset, seed, found.cells(preset))
    plan = whole_batches(plan) if target else plan
    with (
        _refusals(directory),
        options.executor(workers, scheduler, dask_local) as execute,
        open_store(directory, plan, resume=resume, extended=target is not None) as store,
    ):
        if part:
            _run_share(found, store, execute, part)
            return
        complete(found, store, execute, _console())
        if target:
            _refine(found, store, execute, target)
        result = Report.of(found, store)
        result.save()
        result.show(_console())
        if report_:
            _write_page(context, store.directory, [result])
    if result.failed:
        raise typer.Exit(1)


@app.command("verify")
def verify_all(
    *,
    context: typer.Context,
    preset: options.PresetOption = Preset.QUICK,
    only: Annotated[list[str] | None, typer.Option(help="Name of a study; give it again for more.")] = None,
    workers: options.Workers = options.ALL_CORES,
    scheduler: options.Scheduler = None,
    dask_local: options.DaskLocal = None,
    out: Annotated[Path | None, typer.Option(help="Holds a directory a study; default results/verify-PRESET.")] = None,
    seed: options.Seed = 0,
) -> None:
    """Run what is missing of every study and print one table of claims: exit code 1 if one fails, 2 on an error."""
    studies = [_study(context, name) for name in (only or context.obj.studies)]
    studies = [study for study in studies if preset in presets(study)]
    if not studies:
        raise typer.BadParameter(f"none of these studies has the preset {preset}")
    root = out or Path("results") / f"verify-{preset}"
    root.mkdir(parents=True, exist_ok=True)
    with _refusals(root), options.executor(workers, scheduler, dask_local) as execute:
        done = verify(studies, preset, root, seed=seed, execute=execute, console=_console())
    done.show(_console())
    raise typer.Exit(done.exit_code)


@app.command()
def report(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Results directory of a study, or of verify.")],
) -> None:
    """Write report.html, CSV and LaTeX tables, and print the verdicts: exit code 1 if a claim fails, 2 on an error."""
    with _refusals(directory):
        reports = []
        for path in _results(directory):
            store = Store.read(path)
            reports.append(Report.of(_study(context, store.plan.study), store))
            reports[-1].show(_console())
        _write_page(context, directory, reports)
    if any(found.failed for found in reports):
        raise typer.Exit(1)


@app.command("merge")
def merge_runs(
    sources: Annotated[list[Path], typer.Argument(help="Results directories of one study, preset and seed.")],
    out: Annotated[Path, typer.Option(help="A new directory.")],
) -> None:
    """Put together results directories of several machines; replicates that two of them hold are refused."""
    with _refusals(out):
        missing = len(merge(sources, out).missing())
    left = f"{missing} batches are missing: continue with run --resume --out {out}" if missing else "the table is whole"
    _console().print(f"{out}: {left}", highlight=False, soft_wrap=True)


def _run_share(study: Study, store: Store, execute: Execute, part: tuple[int, int]) -> None:
    batches = shard(store.plan, store.missing(), *part)
    with progress(study.name, batches, _console()) as on_done:
        runner.run(study, store, batches=batches, execute=execute, on_done=on_done)
    index, count = part
    _console().print(
        f"Share {index} of {count} is in {store.directory}: python -m simulations merge puts the shares together.",
        highlight=False,
        soft_wrap=True,
    )


def _refine(study: Study, store: Store, execute: Execute, target: Target) -> None:
    for message in rounds(store, target, lambda: study.verdicts(store.table(), Preset(store.plan.preset))):
        _console().print(f"{study.name}: {message}", highlight=False, soft_wrap=True)
        complete(study, store, execute, _console())


def _target(precision: float | None, budget: str) -> Target | None:
    if precision is None:
        return None
    try:
        return Target(precision, options.seconds(budget))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _results(directory: Path) -> list[Path]:
    """Return the results directories that are a directory, or in it."""
    inside = sorted(path.parent for path in directory.glob("*/manifest.json"))
    return inside if inside and not (directory / "manifest.json").exists() else [directory]


def _write_page(context: typer.Context, directory: Path, reports: list[Report]) -> None:
    for written in page.write(directory, reports, import_module(context.obj.figures).draw_all):
        _console().print(str(written), highlight=False, soft_wrap=True)


def _study(context: typer.Context, name: str) -> Study:
    studies = context.obj.studies
    if name not in studies:
        raise typer.BadParameter(f"no study {name!r}; there are: {', '.join(studies) or 'none'}")
    return studies[name]


@contextmanager
def _refusals(directory: Path) -> Iterator[None]:
    """Turn an interrupt and the errors a user can mend into messages and exit codes."""
    try:
        yield
    except KeyboardInterrupt:
        _console().print(f"Stopped. Finished batches are in {directory}: repeat the command with --resume.")
        raise typer.Exit(130) from None
    except (ResultsError, runner.BatchError) as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", highlight=False, markup=False)
        raise typer.Exit(2) from error


def _console() -> Console:
    """Return a console on standard output; a file has no width to fit, so tables keep theirs there."""
    return Console(width=None if sys.stdout.isatty() else 180)


if __name__ == "__main__":
    app()
