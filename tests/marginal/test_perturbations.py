"""Each family against its formula in numpy and against the law it claims; the contract is in tests/contract.

Kolmogorov-Smirnov tests alarm falsely once in ten thousand seeds, means of n draws at four standard errors once in
sixteen thousand; seeds are fixed.
"""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from eeqs.marginal import (
    LOG_EXPONENTIAL,
    Affine,
    Contextual,
    Dropout,
    Flow,
    Gaussian,
    Hull,
    Identity,
    LogLinear,
    LowRank,
    NEFTune,
    PerToken,
    Pushforward,
    Rotation,
    UniformBall,
)
from eeqs.marginal.parameters import labels
from eeqs.marginal.perturbations import hull

N = 20_000


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def draws(family, n=N, seed=1):
    return family.latent_law.sample((n, family.latent_dim), rng(seed), torch.float64, torch.device("cpu"))


def noise(family, prefix, n=N):
    """Perturbations of one prefix (d,) by n draws, as a numpy array (n, d)."""
    return (family(prefix, draws(family, n)) - prefix).detach().numpy()


def assert_law(sample, law):
    assert stats.kstest(sample, law.cdf).pvalue > 1e-4


def assert_mean(sample, expected):
    sample = np.asarray(sample)
    error = sample.std(axis=0) / len(sample) ** 0.5
    assert (np.abs(sample.mean(axis=0) - expected) < 4 * error + 1e-12).all()


def generic(module, seed=3):
    with torch.no_grad():
        for value, g in zip(module.parameters(), range(seed, 10_000), strict=False):
            value.add_(0.4 * normal(*value.shape, seed=g))
    return module


def test_gaussian_adds_noise_of_the_stated_scale():
    found = noise(Gaussian(3, [math.log(0.5), math.log(2.0), 0.0]), normal(3))
    for j, scale in enumerate((0.5, 2.0, 1.0)):
        assert_law(found[:, j], stats.norm(0, scale))


def test_isotropic_is_diagonal_with_equal_scales():
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    assert torch.equal(Gaussian(3, -0.7)(prefix, z), Gaussian(3, [-0.7] * 3)(prefix, z))


def test_scale_and_log_scale_are_one_family():
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    by_scale, by_log = Gaussian(3, scale=[0.5, 2.0, 1.0]), Gaussian(3, np.log([0.5, 2.0, 1.0]))
    torch.testing.assert_close(by_scale(prefix, z), by_log(prefix, z), rtol=1e-14, atol=0)
    torch.testing.assert_close(by_scale.sigma(), by_log.sigma(), rtol=1e-14, atol=0)
    assert (labels(Gaussian(3, scale=0.1)), labels(Gaussian(3))) == (("scale",), ("log_scale",))


def test_zero_scale_is_a_point_like_any_other_and_minus_infinity_a_dead_end():
    prefix, z = normal(4, 2), normal(4, 2, seed=1)
    boundary, dead = Gaussian(2, scale=0.0), Gaussian(2, -math.inf)
    for family in (boundary, dead):
        family(prefix, z).sum().backward()
    torch.testing.assert_close(boundary.scale.grad, z.sum())
    assert dead.log_scale.grad == 0


def test_the_given_tensor_is_not_shared():
    scale = torch.zeros(2, dtype=torch.float64)
    family, factor = Gaussian(2, scale), normal(2, 2)
    low_rank = LowRank(factor)
    scale += 1
    factor += 1
    assert family.log_scale.tolist() == [0.0, 0.0]
    assert not torch.equal(low_rank.factor, factor)


def test_per_token_scale_belongs_to_the_position():
    family = PerToken(2, 3, np.log([0.5, 1.0, 2.0]))
    prefix, z = normal(5, 3, 2), normal(5, 3, 2, seed=1)
    expected = prefix.numpy() + np.array([0.5, 1.0, 2.0])[:, None] * z.numpy()
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), expected, rtol=1e-14)
    short = family(prefix[:, :2], z[:, :2])
    np.testing.assert_allclose(short.detach().numpy(), expected[:, :2], rtol=1e-14)


def test_per_token_refuses_what_it_has_no_scale_for():
    with pytest.raises(ValueError, match="T at most 3"):
        PerToken(2, 3)(normal(4, 2), normal(4, 2))
    with pytest.raises(ValueError, match="prefix has shape \\(2,\\)"):
        PerToken(2, 3)(normal(2), normal(2))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_low_rank_noise_has_its_covariance(rank):
    family = LowRank(normal(3, rank, seed=7))
    sigma = family.factor.detach().numpy() @ family.factor.detach().numpy().T
    np.testing.assert_allclose(family.covariance().detach().numpy(), sigma, rtol=1e-13, atol=1e-14)
    found = noise(family, normal(3))
    products = found[:, :, None] * found[:, None, :]
    assert_mean(products.reshape(N, 9), sigma.reshape(9))


def test_low_rank_factor_is_identified_up_to_rotation():
    factor, (rotation, _) = normal(3, 2, seed=7), torch.linalg.qr(normal(2, 2, seed=8))
    turned = LowRank(factor @ rotation)
    torch.testing.assert_close(turned.covariance(), LowRank(factor).covariance())
    z = normal(4, 2)
    torch.testing.assert_close(turned(normal(4, 3), z), LowRank(factor)(normal(4, 3), z @ rotation.mT))


def test_affine_by_hand():
    family = Affine(2, log_scale=[0.1, -0.2], shift=0.5, slope=[2.0, 3.0])
    found = family(torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, -1.0]).double())
    assert found.tolist() == pytest.approx([2 + 0.5 + math.exp(0.1), 6 + 0.5 - math.exp(-0.2)], rel=1e-14)


def test_log_linear_scale_by_hand():
    family = LogLinear(2, bias=[0.1, -0.2], weight=[0.5, 0.7], depends_on=[[False, True], [True, False]])
    prefix = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    z = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    expected = [2 + math.exp(0.1 + 0.5 * 3), 3 - math.exp(-0.2 + 0.7 * 2)]
    assert family(prefix, z)[0].tolist() == pytest.approx(expected, rel=1e-14)


def test_log_linear_without_dependence_is_diagonal_gaussian():
    prefix, z = normal(4, 2), normal(4, 2, seed=1)
    family = LogLinear(2, bias=[0.1, -0.2], depends_on=torch.zeros(2, 2, dtype=torch.bool))
    assert len(family.weight) == 0
    torch.testing.assert_close(family(prefix, z), Gaussian(2, [0.1, -0.2])(prefix, z), rtol=1e-15, atol=0)


def running(prefix):
    """Embedding and mean of the embeddings so far, by a loop."""
    means = np.stack([prefix[..., : t + 1, :].mean(axis=-2) for t in range(prefix.shape[-2])], axis=-2)
    return np.concatenate([prefix, means], axis=-1)


def two_layers(network, x):
    (first, second), (a, b) = network.weights, network.biases
    first, second, a, b = (value.detach().numpy() for value in (first, second, a, b))
    return np.tanh(x @ first.T + a) @ second.T + b


@pytest.mark.parametrize("sequence", [False, True])
def test_contextual_by_hand(sequence):
    family = generic(Contextual(2, (4,), generator=rng(), sequence=sequence))
    prefix, z = normal(3, 5, 2), normal(3, 5, 2, seed=1)
    context = running(prefix.numpy()) if sequence else prefix.numpy()
    log_scale, shift = np.split(two_layers(family.network, context), 2, axis=-1)
    expected = prefix.numpy() + shift + np.exp(log_scale) * z.numpy()
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("make", [Contextual, Flow])
def test_networks_start_as_isotropic_noise(make):
    prefix, z = normal(4, 3), normal(4, 3, seed=1)
    family = make(3, generator=rng(), log_scale=-0.7)
    torch.testing.assert_close(family(prefix, z), Gaussian(3, -0.7)(prefix, z), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("sequence", [False, True])
def test_pushforward_by_hand_and_its_start(sequence):
    family = Pushforward(2, (4,), generator=rng(), latent_dim=3, sequence=sequence)
    prefix, z = normal(3, 5, 2), normal(3, 5, 3, seed=1)
    context = running(prefix.numpy()) if sequence else prefix.numpy()
    expected = prefix.numpy() + two_layers(family.network, np.concatenate([context, z.numpy()], axis=-1))
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), expected, rtol=1e-12)
    size = (family(prefix, z) - prefix).detach().square().mean().sqrt()
    assert 0.01 < size < 0.2


def test_activation_is_the_callers():
    prefix, z = normal(4, 2), normal(4, 2)
    gelu, tanh = (Pushforward(2, (4,), generator=rng(), activation=a) for a in (torch.nn.functional.gelu, torch.tanh))
    assert not torch.allclose(gelu(prefix, z), tanh(prefix, z))


@pytest.mark.parametrize("make", [Contextual, Pushforward, Flow])
def test_networks_read_no_global_random_state_and_refuse_a_vector_as_a_sequence(make):
    before = torch.get_rng_state()
    first, again = make(3, generator=rng(5)), make(3, generator=rng(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"needs \(\.\.\., T, d\)"):
        make(3, generator=rng(), sequence=True)(normal(3), normal(3))


@pytest.mark.parametrize(("dim", "layers"), [(1, 1), (1, 3), (2, 2), (3, 4), (4, 3)])
@pytest.mark.parametrize("sequence", [False, True])
def test_flow_inverse_and_density_by_change_of_variables(dim, layers, sequence):
    family = generic(Flow(dim, layers, (4,), generator=rng(), sequence=sequence))
    prefix, z = normal(6, dim), normal(6, dim, seed=1)
    value = family(prefix, z).detach()
    found, log_det = (part.detach() for part in family.inverse(value, prefix))
    log_density = family.log_density(value, prefix).detach()
    torch.testing.assert_close(found, z, rtol=1e-10, atol=1e-10)
    jacobian = torch.func.jacrev(family, argnums=1)(prefix, z).detach()
    for t in range(6):
        # Position t reads its own latent only, so the Jacobian is block diagonal.
        expected = -np.linalg.slogdet(jacobian[t, :, t].numpy())[1]
        assert float(log_det[t]) == pytest.approx(expected, rel=1e-10, abs=1e-12)
        of_latent = stats.norm.logpdf(z[t].numpy()).sum()
        assert float(log_density[t]) == pytest.approx(of_latent + expected, rel=1e-10)


@pytest.mark.parametrize(("dim", "points"), [(1, 30_001), (2, 801)])
def test_flow_density_integrates_to_one_and_is_that_of_its_draws(dim, points):
    family = generic(Flow(dim, 4, (4,), generator=rng(), log_scale=-0.5))
    prefix = normal(dim)
    line = torch.linspace(-15, 15, points, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(*[line] * dim, indexing="ij"), dim=-1)
    density = family.log_density(grid, prefix).detach().exp()
    cell = (30 / (points - 1)) ** dim
    assert float(density.sum()) * cell == pytest.approx(1, abs=1e-6)
    drawn = family(prefix, draws(family)).detach()
    for function in (torch.sin, torch.tanh, torch.square):
        expected = (density[..., None] * function(grid)).reshape(-1, dim).sum(dim=0) * cell
        assert_mean(function(drawn).numpy(), expected.numpy())


def test_flow_is_not_gaussian_once_it_leaves_its_start():
    family = generic(Flow(2, 6, (8,), generator=rng()), seed=11)
    found = noise(family, normal(2))
    assert min(stats.normaltest(found[:, j]).pvalue for j in range(2)) < 1e-6


TABLE = normal(40, 3, seed=2)


def test_hull_finds_the_nearest_rows():
    prefix = normal(7, 5, 3, seed=9)
    distance = ((prefix.numpy()[..., None, :] - TABLE.numpy()) ** 2).sum(axis=-1)
    expected = np.argsort(distance, axis=-1)[..., :6]
    np.testing.assert_array_equal(Hull(TABLE, 6).nearest(prefix).numpy(), expected)


def test_hull_searches_in_blocks(monkeypatch):
    prefix, z = normal(7, 3, seed=9), normal(2, 7, 6)
    whole, largest = Hull(TABLE, 6)(prefix, z), []
    monkeypatch.setattr(hull, "_BLOCK", 100)
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda x, *a, **k: largest.append(x.numel()) or topk(x, *a, **k))
    torch.testing.assert_close(Hull(TABLE, 6)(prefix, z), whole, rtol=1e-12, atol=1e-12)
    assert len(largest) == 4
    assert max(largest) <= 100


def test_hull_by_hand():
    family = Hull(TABLE, 3, log_weight=[-0.4, 0.3], log_scale=-0.2, log_temperature=0.5)
    prefix, z = normal(3, seed=9), normal(3, seed=1)
    distance = ((prefix.numpy() - TABLE.numpy()) ** 2).sum(axis=-1)
    near = np.argsort(distance)[:3]
    weight = special.softmax(np.array([0, -0.4, 0.3]) - distance[near] / math.exp(0.5) + math.exp(-0.2) * z.numpy())
    np.testing.assert_allclose(family.weights(prefix, z).detach().numpy(), weight, rtol=1e-12)
    np.testing.assert_allclose(family(prefix, z).detach().numpy(), weight @ TABLE.numpy()[near], rtol=1e-12)


@pytest.mark.parametrize("law", [Hull(TABLE, 2).latent_law, LOG_EXPONENTIAL], ids=["normal", "log_exponential"])
@pytest.mark.parametrize("prefix", [TABLE[4], 100 * normal(3)])
def test_hull_stays_inside_the_hull(law, prefix):
    family = Hull(TABLE, 5, log_scale=1.0, log_temperature=2.0, law=law)
    z = draws(family, 500)
    weight, rows = family.weights(prefix, z).detach(), TABLE[family.nearest(prefix)]
    assert (weight >= 0).all()
    torch.testing.assert_close(weight.sum(dim=-1), torch.ones(500, dtype=torch.float64), rtol=1e-14, atol=0)
    torch.testing.assert_close(family(prefix, z).detach(), weight @ rows, rtol=1e-12, atol=1e-12)


def test_hull_weights_are_logistic_normal_or_dirichlet():
    flat = {"log_temperature": 50.0}  # distances count for nothing
    family = Hull(TABLE, 4, log_weight=[0.5, 0.0, -0.5], log_scale=math.log(0.7), **flat)
    weight = family.weights(TABLE[0], draws(family)).detach().numpy()
    for j, a in enumerate((0.5, 0.0, -0.5), start=1):
        assert_law(np.log(weight[:, j] / weight[:, 0]), stats.norm(a, 0.7 * 2**0.5))
    family = Hull(TABLE, 4, law=LOG_EXPONENTIAL, **flat)
    weight = family.weights(TABLE[0], draws(family)).detach().numpy()
    for j in range(4):
        assert_law(weight[:, j], stats.beta(1, 3))


def test_hull_of_single_precision_table():
    family = Hull(TABLE.float(), 3).to(torch.bfloat16)
    out = family(TABLE[:4].bfloat16(), normal(4, 3).bfloat16())
    assert out.dtype == torch.bfloat16
    mixed = Hull(TABLE.float(), 3)
    assert mixed.table.dtype == torch.float32
    assert mixed(TABLE[:4], normal(4, 3)).dtype == torch.float64


def test_rotation_keeps_the_length_and_zero():
    family, prefix = Rotation(4, 0.5), normal(200, 4) * torch.logspace(-6, 6, 200, dtype=torch.float64)[:, None]
    out = family(prefix, normal(200, 4, seed=1)).detach()
    torch.testing.assert_close(out.norm(dim=-1), prefix.norm(dim=-1), rtol=1e-13, atol=0)
    assert torch.equal(family(torch.zeros(4).double(), normal(4)), torch.zeros(4).double())


def test_rotation_angle_is_chi_and_its_direction_uniform():
    prefix, scale = 3 * normal(4), 0.2
    out = Rotation(4, math.log(scale))(prefix, normal(N, 4, seed=1)).detach()
    cosine = (out @ prefix / prefix.square().sum()).clamp(-1, 1)
    assert_law(cosine.arccos().numpy() / scale, stats.chi(3))
    tangent = out - cosine[:, None] * prefix
    basis = torch.linalg.svd(prefix[None])[2][1:]
    inside = (tangent @ basis.mT).numpy()
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    for j in range(3):
        assert_law(inside[:, j], stats.uniform(-1, 2))  # a coordinate of a uniform point on the sphere of R^3


def test_rotation_of_small_scale_is_nearly_von_mises_fisher():
    prefix, scale = normal(3), 0.1
    out = Rotation(3, math.log(scale))(prefix, normal(N, 3, seed=1)).detach()
    cosine = (out @ prefix / prefix.square().sum()).numpy()
    kappa = scale**-2
    concentration = 1 / math.tanh(kappa) - 1 / kappa
    assert abs(cosine.mean() - concentration) < 4 * cosine.std() / N**0.5 + scale**4
    reference = stats.vonmises_fisher([0, 0, 1], kappa).rvs(N, random_state=np.random.default_rng(1))[:, 2]
    assert abs(np.log(1 - cosine).mean() - np.log(1 - reference).mean()) < 4 * (2 / N) ** 0.5 * 1.3 + scale**2


def test_rotation_series_meets_the_functions():
    """Cosine and its first two derivatives in the scale agree on both sides of the switch and with the closed form."""
    prefix, z = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    family = Rotation(2)

    def cosine(angle):
        return torch.func.functional_call(family, {"log_scale": angle.log()}, (prefix, z))[0]

    for angle in (1e-8, 0.05, 0.0999, 0.1, 0.1001, 1.0, 3.0):
        at = torch.tensor(angle, dtype=torch.float64)
        assert float(cosine(at).detach()) == pytest.approx(math.cos(angle), rel=1e-14)
        assert float(torch.func.grad(cosine)(at)) == pytest.approx(-math.sin(angle), rel=1e-12)
        assert float(torch.func.grad(torch.func.grad(cosine))(at)) == pytest.approx(-math.cos(angle), rel=1e-7)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_uniform_ball(dim):
    found = noise(UniformBall(dim, 1.7), normal(dim)) / 1.7
    radius = np.linalg.norm(found, axis=1)
    assert_law(radius**dim, stats.uniform())
    assert_mean((found[:, :, None] * found[:, None, :]).reshape(N, -1), (np.eye(dim) / (dim + 2)).reshape(-1))
    assert_mean(found, 0.0)


def test_uniform_ball_at_a_latent_of_zero():
    assert torch.equal(UniformBall(2, 1.0)(normal(2), torch.zeros(4).double()), normal(2))


def test_neftune_is_uniform_in_its_cube():
    found = noise(NEFTune(4, alpha=5.0, length=9), normal(4))
    half = 5 / math.sqrt(9 * 4)
    assert np.abs(found).max() <= half
    for j in range(4):
        assert_law(found[:, j], stats.uniform(-half, 2 * half))


def test_hard_dropout_at_its_rate():
    family = Dropout(3, [0.1, 0.5, 0.8], temperature=0.0, inverted=True)
    assert list(family.parameters()) == []
    prefix = normal(3)
    out = family(prefix, draws(family)).numpy()
    for j, rate in enumerate((0.1, 0.5, 0.8)):
        assert set(np.unique(out[:, j])) == {0.0, np.unique(out[:, j])[np.abs(np.unique(out[:, j])).argmax()]}
        assert stats.binomtest(int((out[:, j] == 0).sum()), N, rate).pvalue > 1e-4
    assert_mean(out, prefix.numpy())


def test_relaxed_gates_are_binary_concrete():
    family = Dropout(2, 0.3, temperature=0.4)
    keep = family(torch.ones(2).double(), draws(family)).detach().numpy()
    assert_law(0.4 * special.logit(keep[:, 0]) + special.logit(0.3), stats.logistic())
    assert stats.binomtest(int((keep[:, 1] < 0.5).sum()), N, 0.3).pvalue > 1e-4


def test_token_masking_moves_the_whole_vector_to_the_mask():
    mask, prefix = normal(3, seed=4), normal(3)
    family = Dropout(3, 0.4, temperature=0.0, per_token=True, mask=mask)
    assert family.latent_dim == 1
    out = family(prefix, draws(family, 2000))
    masked = (out == mask).all(dim=-1)
    assert (masked | (out == prefix).all(dim=-1)).all()
    assert stats.binomtest(int(masked.sum()), 2000, 0.4).pvalue > 1e-4


def test_inverted_dropout_keeps_the_mean_with_a_mask_too():
    mask, prefix = normal(3, seed=4), normal(3)
    family = Dropout(3, 0.4, temperature=0.0, mask=mask, inverted=True)
    assert_mean(family(prefix, draws(family)).numpy(), prefix.numpy())


G = {"generator": rng()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Identity(0), "dim is 0"),
        (lambda: Gaussian(2, [0.0] * 3), "log_scale has shape \\(3,\\)"),
        (lambda: Gaussian(0), "dim is 0"),
        (lambda: Gaussian(2, 0.0, scale=1.0), "both given"),
        (lambda: Gaussian(2, scale=-0.1), "scale contains -0.1"),
        (lambda: Gaussian(2, math.nan), "log_scale contains nan"),
        (lambda: Gaussian(2, math.inf), "log_scale contains inf"),
        (lambda: Gaussian(2, scale=math.inf), "scale contains inf"),
        (lambda: PerToken(2, 0), "positions is 0"),
        (lambda: PerToken(2, 3, [0.0] * 2), "log_scale has shape \\(2,\\); pass one number or 3"),
        (lambda: LowRank(torch.zeros(3)), "factor has shape \\(3,\\)"),
        (lambda: LowRank(torch.full((2, 2), math.nan)), "finite"),
        (lambda: Affine(2, shift=[0.0] * 3), "shift has shape"),
        (lambda: Affine(2, slope=-math.inf), "slope contains -inf"),
        (lambda: LogLinear(0), "dim is 0"),
        (lambda: LogLinear(2, bias=[0.0] * 3), "bias has shape \\(3,\\); pass one number or 2"),
        (lambda: LogLinear(2, weight=[0.0] * 3), "weight has shape \\(3,\\); pass one number or 4"),
        (lambda: LogLinear(2, depends_on=[[True, False]]), "depends_on is torch.bool of shape \\(1, 2\\)"),
        (lambda: LogLinear(2, depends_on=torch.ones(2, 2)), "depends_on is torch.float32"),
        (lambda: Contextual(2, (0,), **G), "sizes is \\(2, 0, 4\\)"),
        (lambda: Contextual(2, log_scale=[0.0] * 3, **G), "log_scale has shape"),
        (lambda: Pushforward(2, latent_dim=0, **G), "latent_dim is 0"),
        (lambda: Flow(3, 1, **G), "layers is 1; 2 at least"),
        (lambda: Flow(1, 0, **G), "layers is 0; 1 at least"),
        (lambda: Hull(torch.zeros(3), 2), "table has shape \\(3,\\)"),
        (lambda: Hull(torch.zeros(3, 2), 4), "neighbours is 4; pass 2 to 3"),
        (lambda: Hull(torch.zeros(3, 2), 1), "neighbours is 1"),
        (lambda: Hull(TABLE, 3, log_weight=[0.0] * 3), "log_weight has shape \\(3,\\); pass one number or 2"),
        (lambda: Rotation(1), "dim is 1; this perturbation needs an embedding of dimension 2"),
        (lambda: UniformBall(2, -1.0), "radius is -1.0"),
        (lambda: NEFTune(2, -1.0, 5), "alpha is -1.0"),
        (lambda: NEFTune(2, 1.0, 0), "length 0"),
        (lambda: Dropout(2, 1.0), "rate is 1.0"),
        (lambda: Dropout(2, -0.1), "rate is -0.1"),
        (lambda: Dropout(2, [0.1] * 3), "rate has shape"),
        (lambda: Dropout(2, [0.1] * 2, per_token=True), "rate has shape \\(2,\\); pass one number or 1"),
        (lambda: Dropout(2, temperature=-1.0), "temperature -1.0"),
        (lambda: Dropout(2, mask=torch.zeros(3)), "mask has shape"),
    ],
)
def test_bad_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()
