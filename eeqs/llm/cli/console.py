"""What the commands print, and how their errors leave."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import typer
from rich.console import Console

from eeqs.engine.errors import EeqsError

__all__ = ["note", "out", "refusals"]


def out() -> Console:
    """Return a console on standard output; a file has no width to fit, so tables keep theirs there."""
    return Console(width=None if sys.stdout.isatty() else 180)


def note(message: str) -> None:
    """Tell something on standard error, which leaves standard output to results."""
    Console(stderr=True, soft_wrap=True).print(message, highlight=False, markup=False)


@contextmanager
def refusals(interrupted: str = "Stopped.") -> Iterator[None]:
    """Turn an interrupt and the errors a user can mend into one line and an exit code: 130 and 2.

    Parameters
    ----------
    interrupted : str
        What to tell on an interrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        note(interrupted)
        raise typer.Exit(130) from None
    except torch.OutOfMemoryError as error:
        note("error: the device is out of memory; lower --set micro_rows=N or --length, or use a smaller model.")
        raise typer.Exit(2) from error
    except ImportError as error:
        note(f"error: {error}; language models need the extra llm: pip install eeqs[llm].")
        raise typer.Exit(2) from error
    except (EeqsError, ValueError, OSError, FloatingPointError) as error:
        note(f"error: {' '.join(str(error).split())}")
        raise typer.Exit(2) from error
