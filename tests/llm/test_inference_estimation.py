"""Estimates of phi from packed documents: covariance by document, influence, diagnosis, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from inference_text import DESIGN, documents, packed

import eeqs
from eeqs.llm import PerturbedLM
from eeqs.llm.inference import (
    diagnose,
    document_influence,
    document_stream,
    estimate_perturbation,
    leave_document_out,
    perturbation_psi,
    with_estimate,
)
from eeqs.llm.packing import pack
from eeqs.marginal import Gaussian, cross_fitted, iid
from simulations.designs.perturbed_text import KindsGaussian

N, LENGTH = 40, 7  # longest documents have 12 tokens, so most come in two windows


@pytest.fixture(scope="module")
def rows():
    return packed(N, LENGTH)


@pytest.fixture(scope="module")
def fit(rows):
    return estimate_perturbation(DESIGN.model((0.3,)), rows)


def test_the_estimate_is_near_the_truth_and_solves_the_equation(fit, rows) -> None:
    assert fit.solution.converged
    assert fit.names == ("log_scale",)
    assert fit.cov_type == "CR1(document)"
    assert abs(float(fit.params.iloc[0]) - DESIGN.truth[0]) < 4 * float(fit.bse.iloc[0])
    data = list(document_stream(rows, DESIGN.model().perturbation, iid(4))())
    psi = perturbation_psi(DESIGN.model())
    values = [psi(fit.solution.theta, {k: part[k] for k in ("input_ids", "labels", "z")}) for part in data]
    assert abs(float(torch.cat(values).sum())) < 1e-4 * float(torch.cat(values).norm())


def test_the_covariance_is_that_of_sums_by_document(fit, rows) -> None:
    """CR1 written out: windows summed by the name of their document, the bread by finite differences."""
    psi = perturbation_psi(DESIGN.model())
    batches = list(document_stream(rows, DESIGN.model().perturbation, iid(4))())
    columns = [{k: part[k] for k in ("input_ids", "labels", "z")} for part in batches]

    def values(shift: float) -> np.ndarray:
        return torch.cat([psi(fit.solution.theta + shift, part)[:, 0] for part in columns]).numpy()

    names = np.concatenate([part["document"] for part in batches])
    assert len(names) > len(set(names)) == N
    sums = np.array([values(0.0)[names == name].sum() for name in set(names)])
    slope = (values(1e-5).sum() - values(-1e-5).sum()) / 2e-5
    expected = N / (N - 1) * (sums**2).sum() / slope**2
    assert float(fit.covariance) == pytest.approx(expected, rel=1e-6)
    assert fit.df_clusters == N - 1


def test_batches_and_sources_change_nothing(fit, rows) -> None:
    half = torch.arange(len(rows)).chunk(3)
    again = estimate_perturbation(
        DESIGN.model((0.3,)), lambda: (rows.select(part) for part in half), batch_size=5, tolerance=1e-8
    )
    assert float(again.params.iloc[0]) == pytest.approx(float(fit.params.iloc[0]), abs=1e-6)
    assert float(again.bse.iloc[0]) == pytest.approx(float(fit.bse.iloc[0]), rel=1e-5)


def test_the_model_takes_the_estimate(fit) -> None:
    model = DESIGN.model((0.3,))
    held = with_estimate(model, fit)
    assert held.perturbation.log_scale.item() == pytest.approx(float(fit.params.iloc[0]))
    assert model.perturbation.log_scale.item() == pytest.approx(0.3)


@pytest.fixture(scope="module")
def two():
    """Two scales, with a start near the root."""
    kinds = (-0.1, -0.2)
    texts = documents(100, replace(DESIGN, truth=kinds, noise=kinds))
    model = PerturbedLM(DESIGN.model().backend, KindsGaussian(8, kinds)).eval()
    return model, texts, estimate_perturbation(model, pack(texts, 12))


def test_leaving_a_document_out_is_what_a_fit_without_it_gives(two) -> None:
    """One step from the root: within a twentieth of the largest shift of each parameter."""
    model, texts, fit = two
    found = leave_document_out(fit)
    heaviest = found.distance.sort_values(ascending=False).index
    for name in (heaviest[0], heaviest[20], heaviest[-1]):
        rest = pack([text for text in texts if text.id != name], 12)
        moved = estimate_perturbation(model, rest).params - fit.params
        gap = (found.shift.loc[name] - moved).abs()
        assert (gap < 0.05 * found.shift.abs().max()).all()
    pulled = found.shift.loc[heaviest[0]].abs() / found.shift.abs().max()
    assert pulled.max() > 0.5  # so that a twentieth is no empty promise


def test_influence_by_document_gives_the_covariance(two) -> None:
    _, texts, fit = two
    rows = document_influence(fit)
    assert set(rows.index) == {text.id for text in texts}
    count = len(rows)
    outer = count / (count - 1) * rows.to_numpy().T @ rows.to_numpy() / fit.nobs**2
    np.testing.assert_allclose(outer, fit.covariance.numpy(), rtol=1e-8)
    shift = leave_document_out(fit).shift
    assert np.corrcoef(shift.to_numpy().ravel(), -rows.loc[shift.index].to_numpy().ravel())[0, 1] > 0.98


def test_diagnosis_by_document(two) -> None:
    model, texts, fit = two
    found = diagnose(model, pack(texts, 12), fit, redraws=3)
    assert 1 < found.condition < 100
    assert float(found.worst_direction.pow(2).sum()) == pytest.approx(1.0)
    assert found.simulation.share.between(0.05, 0.95).all()
    assert "simulation share" in str(found)
    # More draws leave less of the variance to simulation.
    fitted = with_estimate(model, fit)
    more = diagnose(fitted, pack(texts, 12), fit, draws=16, redraws=3)
    gap = found.simulation.share - more.simulation.share
    assert (gap > 2 * found.simulation.share_error.pow(2).add(more.simulation.share_error.pow(2)).pow(0.5)).all()


def test_a_large_perturbation_is_refused_and_its_functional_estimated(rows) -> None:
    class Wide(KindsGaussian):
        def __init__(self) -> None:
            super().__init__(8, (-0.1, -0.1))
            self.log_scale = torch.nn.Parameter(torch.full((600,), -0.1, dtype=torch.float64))

        def forward(self, prefix: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return prefix + self.log_scale.mean().exp() * z

    with pytest.raises(ValueError, match=r"600 parameters.*estimate_functional"):
        estimate_perturbation(PerturbedLM(DESIGN.model().backend, Wide()), rows)
    model = DESIGN.model((0.0,))
    functional = eeqs.estimate_functional(
        perturbation_psi(model), document_stream(rows, model.perturbation, iid(4)), [1.0],
        cov=eeqs.Cluster("document"), tolerance=1e-5,
    )  # fmt: skip
    fit = estimate_perturbation(model, rows)
    assert functional.estimate == pytest.approx(float(fit.params.iloc[0]), abs=1e-5)
    assert functional.se == pytest.approx(float(fit.bse.iloc[0]), rel=1e-4)


def test_parameters_that_are_not_identified_are_named(rows) -> None:
    class Twice(Gaussian):
        """The scale is a product of two."""

        def __init__(self) -> None:
            super().__init__(8, log_scale=0.0)
            self.second = torch.nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

        def forward(self, prefix: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return prefix + (self.log_scale + self.second).exp() * z

    with pytest.raises((eeqs.SingularBreadError, eeqs.SolverError), match=r"log_scale, second|singular"):
        estimate_perturbation(PerturbedLM(DESIGN.model().backend, Twice()), rows)


def test_one_document_is_refused() -> None:
    with pytest.raises(eeqs.DataError, match="same label"):
        estimate_perturbation(DESIGN.model(), packed(1))


def test_another_tokenizer_is_refused(rows) -> None:
    wrong = replace(rows, input_ids=rows.input_ids + 7)
    with pytest.raises(eeqs.DataError, match="use the tokenizer of the model"):
        estimate_perturbation(DESIGN.model(), wrong)


def test_a_failed_solve_is_a_value_when_asked_for(rows) -> None:
    found = estimate_perturbation(DESIGN.model((0.3,)), rows, max_iterations=1, throw=False, score=cross_fitted)
    assert not found.solution.converged
    assert bool(found.covariance.isnan().all())
