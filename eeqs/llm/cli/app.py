"""The commands together."""

import typer

from eeqs.llm.cli.compare import compare_runs
from eeqs.llm.cli.evaluate import evaluate_model
from eeqs.llm.cli.generate import generate_text
from eeqs.llm.cli.methods import list_methods
from eeqs.llm.cli.train import train

__all__ = ["app"]

app = typer.Typer(
    help="Train, evaluate and compare language models with perturbed prefixes.",
    add_completion=False,
    no_args_is_help=True,
)
app.command("train")(train)
app.command("eval")(evaluate_model)
app.command("compare")(compare_runs)
app.command("generate")(generate_text)
app.command("methods")(list_methods)
