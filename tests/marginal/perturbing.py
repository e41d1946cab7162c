"""Draws of a perturbation and comparisons with the law it claims.

Kolmogorov-Smirnov tests alarm falsely once in ten thousand seeds, means of n draws at four standard errors once in
sixteen thousand; seeds are fixed.
"""

import numpy as np
import torch
from scipy import stats

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
    """Move a network off the zeros it starts at."""
    with torch.no_grad():
        for k, value in enumerate(module.parameters()):
            value.add_(0.4 * normal(*value.shape, seed=seed + k))
    return module
