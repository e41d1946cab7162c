"""One thread, deterministic Hypothesis, and the data sets that several files share."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "eeqs",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("eeqs")

# The first forward-mode derivative makes torch load rules through a function that torch itself has deprecated.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20240229)


@pytest.fixture
def frame() -> pd.DataFrame:
    """Responses of every kind on two regressors: 150 rows, 12 firms of unequal size, integer weights."""
    rng = np.random.default_rng(7)
    n = 150
    x, z = rng.normal(size=n), rng.uniform(-1, 1, size=n)
    index = 0.3 + 0.6 * x - 0.4 * z
    return pd.DataFrame(
        {
            "y": index + rng.normal(size=n) * (1 + np.abs(x)),
            "binary": (rng.uniform(size=n) < 1 / (1 + np.exp(-index))).astype(float),
            "count": rng.poisson(np.exp(index)),
            "x": x,
            "z": z,
            "firm": [f"firm {k}" for k in (12 * rng.beta(1, 2, size=n)).astype(int)],
            "w": rng.integers(0, 4, size=n),
        }
    )
