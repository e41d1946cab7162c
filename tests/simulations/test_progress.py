"""Progress: time left follows cost, lines where there is no terminal."""

from io import StringIO

from rich.console import Console

from simulations.progress import progress
from simulations.study import Cell

CHEAP = list(Cell("toy", {"n": 1}, 6, 2, cost=1.0).batches())
DEAR = list(Cell("toy", {"n": 9}, 2, 2, cost=9.0).batches())


def _report(*, terminal: bool, seconds: list[float]) -> str:
    """Finish the dear batch and then the cheap ones at the given times."""
    now = [0.0]
    file = StringIO()
    console = Console(file=file, force_terminal=terminal, width=100)
    with progress("toy", [*CHEAP, *DEAR], console, clock=lambda: now[0]) as on_done:
        for batch, time in zip([*DEAR, *CHEAP], seconds, strict=True):
            now[0] = time
            on_done(batch)
    return file.getvalue()


def test_lines_every_ten_seconds_with_time_left_by_cost() -> None:
    # 18 of the 24 units of cost are done after 60 s: 20 s are left, although 6 of 8 replicates are to do.
    assert _report(terminal=False, seconds=[60, 65, 69, 71]).splitlines() == [
        "toy: 2/8 replicates, elapsed 0:01:00, left 0:00:20",
        "toy: 8/8 replicates, elapsed 0:01:11, left 0:00:00",
        "toy: 8/8 replicates, elapsed 0:01:11, left 0:00:00",
    ]


def test_bar_on_a_terminal() -> None:
    assert "8/8 replicates, elapsed 0:00:04, left 0:00:00" in _report(terminal=True, seconds=[1, 2, 3, 4])


def test_nothing_to_do_is_reported() -> None:
    file = StringIO()
    with progress("toy", [], Console(file=file), clock=lambda: 0.0):
        pass
    assert file.getvalue() == "toy: 0/0 replicates, elapsed 0:00:00, left unknown\n"
