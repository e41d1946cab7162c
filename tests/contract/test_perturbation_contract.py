"""The contract of perturbations itself: a third-party family passes it, and every violation is named."""

import pytest
import torch
from torch import nn

from eeqs.marginal import RADEMACHER, STANDARD_NORMAL, UNIFORM, Gaussian, LatentLaw
from eeqs.marginal.contract import check_perturbation
from eeqs.marginal.perturbation_clauses import CLAUSES

D = 3


class Additive(nn.Module):
    """A family of a third party: noise of one learnable scale, and a base for violations of the contract."""

    latent_law: LatentLaw = STANDARD_NORMAL

    def __init__(self, scale=0.5):
        super().__init__()
        self.dim = self.latent_dim = D
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, prefix, z):
        return prefix + self.scale * z


class CoinNoise(Additive):
    latent_law = RADEMACHER


class MovingAverage(Additive):
    """Noise of order one: z_t + z_{t-1}, so a family of sequences."""

    def forward(self, prefix, z):
        z = z.expand(*torch.broadcast_shapes(prefix.shape, z.shape))
        before = torch.cat([torch.zeros_like(z[..., :1, :]), z[..., :-1, :]], dim=-2)
        return prefix + self.scale * (z + before)


@pytest.mark.parametrize("family", [Additive, CoinNoise])
def test_a_family_of_a_third_party_passes(family):
    check_perturbation(family(), family(0.0))


class LooksAhead(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z * prefix.mean(dim=-2, keepdim=True)


class KnowsTheLength(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z / prefix.shape[-2]


class ReadsThePast(Additive):
    """Causal, but not without ``sequence=True``."""

    def forward(self, prefix, z):
        if prefix.ndim == 1:
            return prefix + self.scale * z
        return prefix + self.scale * z * prefix.cumsum(dim=-2).tanh()


class Detached(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale.square() * z / self.scale.detach()


class DeadParameter(Additive):
    def forward(self, prefix, z):
        return prefix + (self.scale > 0).to(z.dtype) * z + 0 * self.scale


class SingleParameter(Additive):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))


class TooManyLatents(Additive):
    def __init__(self):
        super().__init__()
        self.latent_dim = D + 1

    def forward(self, prefix, z):
        return prefix + self.scale * z[..., :D]


class TooFewLatents(Additive):
    def __init__(self):
        super().__init__()
        self.latent_dim = D - 1


class NoLaw(Additive):
    latent_law = "normal"


class WrongQuantile(Additive):
    latent_law = LatentLaw("mixed up", UNIFORM.quantile, STANDARD_NORMAL.sample, STANDARD_NORMAL.quadrature)


class WrongSampler(Additive):
    latent_law = LatentLaw("mixed up", UNIFORM.quantile, STANDARD_NORMAL.sample, UNIFORM.quadrature)


class DtypeLeak(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z * torch.ones(D, dtype=torch.float64, device=z.device)


class StaysBehind(Additive):
    def __init__(self):
        super().__init__()
        self.direction = torch.ones(D)

    def forward(self, prefix, z):
        return prefix + self.scale * z * self.direction.to(z.dtype)


class KinkAtZero(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z * prefix.square().sum(dim=-1, keepdim=True).sqrt()


class Overflows(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z * prefix.exp()


class Branches(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z if z.sum() > 0 else prefix + self.scale * z * 1.0


class AddsAnAxis(Additive):
    def forward(self, prefix, z):
        return torch.atleast_2d(prefix + self.scale * z)


class OneDraw(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z.reshape(prefix.shape)


class OwnNoise(Additive):
    def forward(self, prefix, z):
        return prefix + self.scale * z + 0 * torch.randn(D, dtype=z.dtype, device=z.device)


class InPlace(Additive):
    def forward(self, prefix, z):
        return z.mul_(1.0).copy_(prefix + self.scale * z) if z.shape == prefix.shape else prefix + self.scale * z


class Forgets(Additive):
    def __init__(self):
        super().__init__()
        self.register_buffer("size", torch.ones((), dtype=torch.float64), persistent=False)

    def forward(self, prefix, z):
        return prefix + self.scale * self.size * z


VIOLATIONS = [
    (LooksAhead, "causality", {"sequence": True}),
    (KnowsTheLength, "causality", {"sequence": True}),
    (ReadsThePast, "causality", {}),
    (Detached, "derivatives", {}),
    (DeadParameter, "parameters", {}),
    (SingleParameter, "parameters", {}),
    (TooManyLatents, "latent", {}),
    (TooFewLatents, "purity", {}),
    (NoLaw, "protocol", {}),
    (WrongQuantile, "law", {}),
    (WrongSampler, "law", {}),
    (DtypeLeak, "dtypes", {}),
    (StaysBehind, "devices", {}),
    (KinkAtZero, "extremes", {}),
    (Overflows, "extremes", {}),
    (Branches, "vmap", {}),
    (AddsAnAxis, "shapes", {}),
    (OneDraw, "broadcasting", {}),
    (OwnNoise, "purity", {}),
    (InPlace, "purity", {}),
    (Forgets, "state", {}),
]


@pytest.mark.parametrize(("family", "clause", "options"), VIOLATIONS, ids=[v[0].__name__ for v in VIOLATIONS])
def test_a_violation_is_named(family, clause, options):
    with pytest.raises(AssertionError, match=f'{family.__name__} breaks the clause "{clause}"'):
        check_perturbation(family(), **options)


def test_a_family_of_sequences_is_told_from_one_of_vectors():
    check_perturbation(MovingAverage(), MovingAverage(0.0), sequence=True)
    with pytest.raises(AssertionError, match="MovingAverage breaks"):
        check_perturbation(MovingAverage())


def test_a_wrong_identity_is_named():
    with pytest.raises(AssertionError, match='"identity": the identity setting moves the prefix by'):
        check_perturbation(Additive(), Additive(1e-12))


def test_every_clause_has_a_violation():
    assert {clause for _, clause, _ in VIOLATIONS} | {"identity"} == set(CLAUSES)


def test_the_module_is_left_alone():
    module = Gaussian(D, -0.5)
    check_perturbation(module)
    assert module.log_scale.dtype == torch.float64
    assert float(module.log_scale.detach()) == -0.5
    assert module.log_scale.grad is None
