"""Must-show: psi of phi on text of the perturbed transformer itself has mean zero for cross_fitted, not for plug_in.

Every check has level 0.1 %, so the unbiased ones together raise a false alarm with probability below 0.4 %. Seeds are
fixed. The power is that of the planted biases below, each far above what the check detects.
"""

from dataclasses import replace

import pytest
import torch

import eeqs
from eeqs.llm.inference import perturbation_psi
from eeqs.marginal import cross_fitted, plug_in, quadratic, single_draw
from simulations.designs.perturbed_text import PerturbedText

LEVEL, N, CHUNK = 1e-3, 1200, 1200
KINDS = (-0.1, -0.2)


def check(design: PerturbedText, at: tuple[float, ...] | None = None) -> eeqs.engine.unbiased.UnbiasedReport:
    theta = design.truth if at is None else at
    psi = perturbation_psi(design.model())
    return eeqs.check_unbiased(psi, theta, design.sample, N, level=LEVEL, chunk=CHUNK)


@pytest.mark.parametrize(
    "design",
    [
        PerturbedText(),
        PerturbedText(score=quadratic),
        PerturbedText(truth=KINDS, noise=KINDS),
    ],
    ids=["one scale", "quadratic", "two scales"],
)
def test_unbiased_scores_have_mean_zero_at_the_truth(design: PerturbedText) -> None:
    report = check(design)
    assert report.passed, str(report)


@pytest.mark.parametrize("score", [plug_in, single_draw], ids=lambda score: score.name)
def test_biased_scores_do_not(score) -> None:
    """The implied bias is that of less noise than there is."""
    report = check(PerturbedText(score=score))
    assert not report.passed
    assert report.table["implied_bias"].iloc[0] < -5 * report.table["implied_bias_se"].iloc[0]


def test_the_check_sees_a_truth_that_is_off_by_a_tenth() -> None:
    assert not check(PerturbedText(score=cross_fitted), (PerturbedText().truth[0] + 0.1,)).passed


def test_the_check_sees_text_of_another_law() -> None:
    """Documents of differing style, which the kernel does not know."""
    styled = PerturbedText(style=0.8)
    assert not check(replace(styled, truth=styled.noise)).passed


def test_shared_draws_would_be_seen() -> None:
    """Planted: residual and instrument from the same draws is the plug-in bias again."""
    design = PerturbedText()

    def shared(n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        data = design.sample(n, generator)
        return {**data, "z": data["z"][:, [0, 1, 0, 1]]}

    report = eeqs.check_unbiased(perturbation_psi(design.model()), design.truth, shared, N, level=LEVEL, chunk=CHUNK)
    assert not report.passed
