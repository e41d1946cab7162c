"""Ridge roots in the space of the observations, against the engine, a closed form and a general optimiser."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

import eeqs
from eeqs import Status
from eeqs.marginal import cross_fitted, exact, quadratic
from simulations.designs.dual_ridge import Root, solve
from simulations.designs.index_models import PerturbedLogit, Squares

PENALTY = 0.05
LOGISTIC = PerturbedLogit(exact(1), trials=2)
MODELS = {
    "squares": Squares(0.5),
    "logistic": LOGISTIC,
    "exact": PerturbedLogit(exact(30), 2.0, trials=2),
    "cross_fitted": PerturbedLogit(cross_fitted, 2.0, draws=4, trials=2),
    "quadratic": PerturbedLogit(quadratic, 2.0, draws=4),
}


def _sample(model: Squares | PerturbedLogit, n: int, p: int, responses: int) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, p, generator=generator, dtype=torch.float64) / torch.arange(1, p + 1) ** 0.75
    return x, model.sample(1.5 * x[:, 0] - x[:, 1], responses, generator)


def _fit(model: Squares | PerturbedLogit, x: Tensor, data: dict[str, Tensor], responses: int) -> tuple[Tensor, Root]:
    information = model.linearised(1.0).information
    root = solve(x @ x.mT, partial(model.residual, data=data), PENALTY, information, responses)
    return root.residuals @ x / (len(x) * PENALTY), root


def _engine_psi(model: Squares | PerturbedLogit) -> eeqs.EstimatingFunction:
    """The penalised psi of one response in the engine, which gets observations first and the model's axes after."""

    def residual(index: Tensor, data: dict[str, Tensor]) -> Tensor:
        mine = {name: part.movedim(0, -1) for name, part in data.items() if name != "x"}
        return model.residual(index[None], mine)[0]

    psi = eeqs.from_linear_index(residual, lambda data: data["x"])
    return eeqs.ridge(psi, PENALTY)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("n", "p"), [(60, 8), (25, 60)], ids=["p < n", "p > n"])
def test_roots_are_those_of_the_engine(name: str, n: int, p: int) -> None:
    model = MODELS[name]
    x, data = _sample(model, n, p, responses=1)
    theta, root = _fit(model, x, data, 1)
    assert root.status == [Status.CONVERGED]
    leading = {part: values.movedim(-1, 0) for part, values in data.items()}
    if isinstance(model, PerturbedLogit):
        leading["y"] = leading["y"].double()  # the engine's data are floating point
        psi = _with_integer_classes(_engine_psi(model))
    else:
        psi = _engine_psi(model)
    found = eeqs.estimate_functional(psi, leading | {"x": x}, np.eye(p)[0], np.zeros(p), tolerance=1e-9)
    torch.testing.assert_close(theta[0], found.theta, rtol=0, atol=1e-5)
    assert float(theta[0].abs().max()) > 0.1


def _with_integer_classes(psi: eeqs.EstimatingFunction) -> eeqs.EstimatingFunction:
    return replace(psi, prepare=lambda data: data | {"y": data["y"].long()})


def test_least_squares_is_its_closed_form() -> None:
    x, data = _sample(MODELS["squares"], 40, 90, responses=3)
    theta, _ = _fit(MODELS["squares"], x, data, 3)
    design, y = x.numpy(), data["y"].numpy()
    expected = np.linalg.solve(design.T @ design / 40 + PENALTY * np.eye(90), design.T @ y.T / 40).T
    np.testing.assert_allclose(theta.numpy(), expected, atol=1e-10)


def test_logistic_minimises_the_penalised_likelihood() -> None:
    x, data = _sample(LOGISTIC, 80, 5, responses=1)
    theta, _ = _fit(LOGISTIC, x, data, 1)
    design, hits = x.numpy(), data["y"][0].sum(dim=0).numpy()

    def loss(b: np.ndarray) -> float:
        index = design @ b
        return float(np.mean(2 * np.logaddexp(0, index) - hits * index) + PENALTY / 2 * b @ b)

    def gradient(b: np.ndarray) -> np.ndarray:
        return design.T @ (2 * expit(design @ b) - hits) / 80 + PENALTY * b

    best = minimize(loss, np.zeros(5), jac=gradient, method="BFGS", options={"gtol": 1e-10})
    np.testing.assert_allclose(theta[0].numpy(), best.x, atol=1e-5)


def test_responses_together_are_responses_alone() -> None:
    model = MODELS["cross_fitted"]
    x, data = _sample(model, 50, 70, responses=4)
    together, _ = _fit(model, x, data, 4)
    for r in range(4):
        mine = {"y": data["y"][r : r + 1], "z": data["z"][:, r : r + 1]}
        torch.testing.assert_close(together[r : r + 1], _fit(model, x, mine, 1)[0], rtol=0, atol=1e-5)


def test_an_equation_without_a_root_is_a_status() -> None:
    def never_zero(index: Tensor) -> Tensor:
        return 1.0 - 2.0 * (index >= 0.3).double()  # H r jumps over every fixed point

    root = solve(torch.eye(6, dtype=torch.float64), never_zero, 0.1, 1.0, 2)
    assert root.status == [Status.MAX_ITERATIONS] * 2


@pytest.mark.parametrize(("penalty", "curvature"), [(0.0, 1.0), (0.1, 0.0)])
def test_penalty_and_curvature_are_positive(penalty: float, curvature: float) -> None:
    with pytest.raises(ValueError, match="needs both positive"):
        solve(torch.eye(2), lambda index: -index, penalty, curvature, 1)
