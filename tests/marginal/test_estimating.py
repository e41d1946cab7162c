"""A marginal model in the engine: estimates, replicates, and bad data at the door."""

from dataclasses import replace

import pytest
import torch

import eeqs
from eeqs.marginal import Gaussian, LogLinear, Marginal, QuadraticSoftmax, cross_fitted, exact, plug_in, quadratic


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def contextual():
    """LogLinear noise before a frozen kernel of six classes: three identified parameters."""
    kernel = QuadraticSoftmax(2 * normal(6, 2, seed=3), 0.15 * normal(6, 2, seed=2)).requires_grad_(False)
    return Marginal(LogLinear(2, bias=[-0.2, -0.7], weight=0.4, depends_on=[[True, False], [False, False]]), kernel)


def sample(model, n, K, seed=0):
    return model.sample(1.2 * normal(n, 2, seed=seed), K, generator(seed + 1))


def miss(score, K, n):
    """Largest distance of the estimate from the truth in standard errors, with the truth as the start."""
    model = contextual()
    result = eeqs.estimate(model.psi(score, draws=K), sample(model, n, K or 1, seed=4))
    return float(((result.params - model.theta.numpy()) / result.bse).abs().max())


@pytest.mark.parametrize(("score", "K", "n"), [(quadratic, 4, 6000), (cross_fitted, 4, 6000), (exact(10), None, 600)])
def test_unbiased_scores_find_the_truth(score, K, n):
    assert miss(score, K, n) < 3.5


def test_plug_in_misses_it():
    assert miss(plug_in, 4, 6000) > 5


def test_names_and_start_reach_the_table():
    model = contextual()
    data = sample(model, 1500, 8)
    result = eeqs.estimate(model.psi(cross_fitted, draws=8), data)
    assert tuple(result.params.index) == ("bias[0]", "bias[1]", "weight[0,0]") == model.names
    from_truth = eeqs.estimate(model.psi(cross_fitted, draws=8), data, model.theta)
    assert (result.params == from_truth.params).all()


def test_later_changes_of_the_model_do_not_reach_psi():
    model = contextual()
    data = {name: leaf.double() for name, leaf in sample(model, 50, 4).items()}
    theta, psi = model.theta, model.psi(cross_fitted, draws=4)
    before = psi(theta, data)
    with torch.no_grad():
        model.kernel.weight.mul_(2)
        model.perturbation.bias.zero_()
    assert torch.equal(psi(theta, data), before)
    assert torch.equal(psi.start(psi.prepare(data)), theta)


def test_a_float32_model_is_estimated_in_float64():
    single, double = contextual().to(torch.float32), contextual()
    data = {name: leaf.double() for name, leaf in sample(double, 50, 4).items()}
    psi = single.psi(cross_fitted, draws=4)(double.theta, data)
    assert psi.dtype == torch.float64
    torch.testing.assert_close(psi, double.psi(cross_fitted, draws=4)(double.theta, data), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("score", "K"), [(cross_fitted, 4), (exact(4), None)])
def test_replicates_solved_together_equal_one_by_one(score, K):
    model = contextual()
    singles = [sample(model, 400, K or 1, seed=10 * r) for r in range(3)]
    batch = {name: torch.stack([single[name].double() for single in singles]) for name in singles[0]}
    psi = model.psi(score, draws=K)
    together = eeqs.solve(psi, batch, model.theta.expand(3, -1))
    for r, single in enumerate(singles):
        alone = eeqs.solve(psi, single)
        assert alone.status is together.status[r]
        torch.testing.assert_close(together.theta[r], alone.theta, rtol=1e-8, atol=1e-8)


def test_a_learnable_kernel_joins_theta():
    model = Marginal(Gaussian(2, -1.0).requires_grad_(False), contextual().kernel.requires_grad_(True))
    data = sample(model, 40, 4)
    psi = model.psi(quadratic, draws=4)
    assert psi.names[0] == "kernel.weight[0,0]"
    assert eeqs.check_jacobian(psi, model.theta, data).passed


def test_columns_can_have_other_names():
    model = contextual()
    data = {name: leaf.double() for name, leaf in sample(model, 50, 4).items()}
    renamed = {"emb": data["x"], "token": data["y"], "draws": data["z"], "unused": data["y"]}
    psi = model.psi(quadratic, draws=4, prefix="emb", response="token", latent="draws")
    assert psi.columns == ("emb", "token", "draws")
    assert torch.equal(psi(model.theta, renamed), model.psi(quadratic, draws=4)(model.theta, data))


def test_quadrature_blocks_do_not_change_the_score(monkeypatch):
    model, psi = contextual(), contextual().psi(exact(5))
    data = {name: leaf.double() for name, leaf in sample(model, 130, 1).items()}
    whole = psi(model.theta, data)
    monkeypatch.setattr("eeqs.marginal.estimating._BLOCK", 1)  # blocks of 64 observations instead of one
    torch.testing.assert_close(psi(model.theta, data), whole, rtol=1e-13, atol=1e-14)


def test_nothing_to_estimate_is_refused():
    model = contextual().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model is learnable"):
        model.psi(cross_fitted, draws=4)


def spoil(**columns):
    return lambda data: {**data, **{name: change(data[name]) for name, change in columns.items()}}


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (spoil(y=lambda y: y + 0.5), 'response "y" has 30 value.*outside the classes 0..5'),
        (spoil(y=lambda y: y - 6), 'response "y" has .* outside the classes 0..5'),
        (spoil(y=lambda y: y.where(y != 2, 7)), "the first is 7"),
        (spoil(x=lambda x: x[:, :1]), r'"x" have shape \(30, 1\); the model needs \(30, 2\)'),
        (spoil(x=lambda x: x[:, 0]), r'"x" have shape \(30,\)'),
        (spoil(y=lambda y: y[:, None]), r'"x" have shape \(30, 2\); the model needs \(30, 1, 2\)'),
        (spoil(z=lambda z: z[:, :3]), r'"z" have shape \(30, 3, 2\); the model needs \(30, 4, 2\)'),
        (spoil(z=lambda z: z[..., :1]), r'"z" have shape \(30, 4, 1\); the model needs \(30, 4, 2\)'),
        (spoil(z=lambda z: z[:29]), '"z" has leading shape'),
        (lambda data: {"x": data["x"], "y": data["y"]}, 'unknown column "z"'),
        (spoil(x=lambda x: x.where(x < 1, torch.nan)), '"x" has .* NaN'),
    ],
)
def test_bad_data_is_refused_at_the_door(spoiled, message):
    model = contextual()
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.estimate(model.psi(cross_fitted, draws=4), spoiled(sample(model, 30, 4)))


def test_batched_data_are_checked_too():
    model = contextual()
    batch = {name: torch.stack([leaf.double()] * 2) for name, leaf in sample(model, 30, 4).items()}
    batch["z"] = batch["z"][:, :, :3]
    with pytest.raises(eeqs.DataError, match=r"\(2, 30, 3, 2\); the model needs \(2, 30, 4, 2\)"):
        eeqs.solve(model.psi(cross_fitted, draws=4), batch, model.theta.expand(2, -1))


def test_a_residual_that_shares_its_draw_with_the_instrument_is_caught():
    """Planted error: the instrument of all draws instead of the other ones is the plug_in bias again."""
    model = contextual()

    def shared(live, frozen, y, log_weight):
        hit = torch.nn.functional.one_hot(y, live.shape[-1])
        instrument = (live + log_weight[:, None, None]).logsumexp(0)
        return -((hit - frozen.exp()) * instrument).sum(-1).mean(0)

    planted = replace(cross_fitted, name="shared", loss=shared)

    def passed(score):
        psi = model.psi(score, draws=4)
        return eeqs.check_unbiased(
            psi,
            model.theta,
            lambda n, g: model.sample(torch.randn(n, 2, generator=g, dtype=torch.float64), 4, g),
            n=30_000,
        ).passed

    assert passed(cross_fitted)
    assert not passed(planted)
