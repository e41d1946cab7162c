"""Coverage of 95 % online intervals against the number of steps."""

from __future__ import annotations

from matplotlib.figure import Figure

from paper_figures.results import Results
from paper_figures.stochastic_results import COLOURS, LABELS, MARKERS, SYMBOLS, line, panels
from paper_figures.style import WIDTH, plain_log_axis

__all__ = ["STUDY", "draw"]

STUDY = "stochastic"

# Methods are set apart so that their error bars do not hide each other.
_SHIFTS = {"random_scaling": 0.94, "plug_in": 1.0, "batch_means": 1.06}


def draw(results: Results) -> Figure:
    """One panel a regime and coordinate."""
    shown = panels(results)
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, (regime, name) in zip(axes, shown, strict=True):
        axis.axhspan(92.5, 97.5, color="0.9", linewidth=0)
        axis.axhline(95, color="0.4", linewidth=0.8)
        for method, shift in _SHIFTS.items():
            found = line(results, "coverage", regime, f"{method}.{name}")
            share, half = 100 * found["value"], 196 * found["mcse"]
            axis.errorbar(
                found["steps"] * shift,
                share,
                yerr=[half.clip(upper=share), half.clip(upper=100 - share)],
                color=COLOURS[method],
                marker=MARKERS[method],
                label=LABELS[method],
                linewidth=0.8,
                capsize=1.5,
                elinewidth=0.7,
            )
        axis.set(xscale="log", ylim=(50, 101), xlabel="steps T", title=f"{regime}: {SYMBOLS[name]}")
        steps = found["steps"].to_numpy()
        plain_log_axis(axis.xaxis, [float(t) for t in steps[(len(steps) - 1) % 2 :: 2]])
        axis.tick_params(axis="x", rotation=45)
    axes[0].set_ylabel("coverage (%)")
    axes[0].set_yticks([50, 60, 70, 80, 90, 95, 100])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(_SHIFTS))
    return figure
