"""RMSE of averaged and last iterates against the number of steps, with fitted and predicted slopes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.stochastic_results import COLOURS, LABELS, MARKERS, SYMBOLS, line, panels
from paper_figures.style import WIDTH, plain_log_axis
from simulations.rates import slope
from simulations.studies.stochastic import STUDY as DESIGN

__all__ = ["STUDY", "draw"]

STUDY = "stochastic"

PREDICTED = {"averaged": "\N{MINUS SIGN}1/2", "last": r"$-\alpha/2$"}


def draw(results: Results) -> Figure:
    """One panel a regime and coordinate."""
    shown = panels(results)
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (regime, name) in zip(axes, shown, strict=True):
        axis.set(xscale="log", yscale="log", xlabel="steps T", title=f"{regime}: {SYMBOLS[name]}")
        exponent = DESIGN.regimes[regime].step.exponent
        _line(axis, results, regime, name, "averaged", -0.5, 0.12)
        _line(axis, results, regime, name, "last", -exponent / 2, 0.03)
        low, high = axis.get_ylim()
        axis.set_ylim(low * (low / high) ** 0.25, high)
        steps = line(results, "rmse", regime, f"last.{name}")["steps"].to_numpy()
        plain_log_axis(axis.xaxis, [float(t) for t in steps[(len(steps) - 1) % 2 :: 2]])
        axis.tick_params(axis="x", rotation=45)
    axes[0].set_ylabel("RMSE, with 95 % band")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _line(axis: Axes, results: Results, regime: str, name: str, output: str, predicted: float, height: float) -> None:
    """Points with their band, a line of the predicted slope through those past the burn-in, and the fitted slope."""
    parameter = f"{'random_scaling' if output == 'averaged' else output}.{name}"
    found = line(results, "rmse", regime, parameter)
    steps, value, half = found["steps"].to_numpy(), found["value"].to_numpy(), 1.96 * found["mcse"].to_numpy()
    burn_in = DESIGN.sizes[results.preset].runs[regime].burn_in
    rows = results.rows(role="rate", regime=regime, parameter=parameter)
    fitted = slope(rows, x="steps", burn_in=burn_in)
    colour, past = COLOURS[output], steps >= burn_in
    axis.fill_between(steps, np.maximum(value - half, value / 3), value + half, color=colour, alpha=0.25, linewidth=0)
    axis.plot(steps, value, color=colour, marker=MARKERS[output], linestyle="none", label=LABELS[output])
    centre = [np.exp(np.mean(np.log(part[past]))) for part in (steps, value)]
    label = f"predicted slope {PREDICTED[output]}"
    axis.plot(steps, centre[1] * (steps / centre[0]) ** predicted, color=colour, linewidth=0.9, label=label)
    text = f"{fitted.estimate:.2f} [{fitted.low:.2f}, {fitted.high:.2f}]".replace("-", "\N{MINUS SIGN}")
    axis.text(0.04, height, text, transform=axis.transAxes, color=colour, fontsize=7, va="bottom")
