"""Measures equal those that SimDesign prints with its seeds; the data are drawn again by R's generator.

The examples are those of the pages ``MSRSE`` and ``reSummarise`` of SimDesign's documentation (Chalmers & Adkins 2020,
*The Quantitative Methods for Psychology* 16), which print the seed of every condition.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from simulations.comparisons import interval_width
from simulations.measures import empirical_se, measures, model_se

Array = np.ndarray


def _r_normals(seed: int, count: int) -> Array:
    """Standard normals as R draws them after ``set.seed(seed)``: Mersenne Twister, inversion of 53-bit uniforms."""
    words, state = [], seed
    for _ in range(50 + 625):
        state = (69069 * state + 1) % 2**32
        words.append(state)
    generator = np.random.MT19937()
    key = np.array(words[51:], dtype=np.uint32)
    generator.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}
    uniform = generator.random_raw(2 * count) * 2.3283064365386963e-10
    return ndtri((np.floor(2**27 * uniform[::2]) + uniform[1::2]) / 2**27)


def test_the_generator_is_that_of_r() -> None:
    """Values every user of R knows: rnorm(3) after set.seed(42) and set.seed(123)."""
    np.testing.assert_allclose(_r_normals(42, 3), [1.37095845, -0.56469817, 0.36312841], atol=5e-9)
    np.testing.assert_allclose(_r_normals(123, 3), [-0.56047565, -0.23017749, 1.55870831], atol=5e-9)


def _two_groups(seed: int) -> tuple[Array, Array]:
    """Estimates and standard errors (500, 2) of intercept and effect: y = 10 + 5 x + N(0, 0.04), 50 a group."""
    noise = 0.2 * _r_normals(seed, 500 * 100).reshape(500, 2, 50)
    means = noise.mean(axis=2)
    variance = ((noise - means[:, :, None]) ** 2).sum(axis=(1, 2)) / 98
    estimates = np.stack([10 + means[:, 0], 5 + means[:, 1] - means[:, 0]], axis=1)
    return estimates, np.sqrt(variance[:, None] * np.array([1, 2]) / 50)


def test_ratio_of_standard_errors() -> None:
    """SimDesign divides the squared mean standard error by the variance, where the paper takes the mean square."""
    estimates, se = _two_groups(402147477)
    for column, printed in enumerate((0.98822, 1.1781)):
        spread = empirical_se(estimates[:, column]).value
        mean_se = interval_width(se[:, column], 1.0).value / 2
        assert (mean_se / spread) ** 2 == pytest.approx(printed, abs=5.1e-5 if column else 5.1e-6)
        relative_variance = np.var(se[:, column]) / mean_se**2
        assert (model_se(se[:, column]).value / spread) ** 2 == pytest.approx(
            printed * (1 + relative_variance), rel=1e-4
        )


@pytest.mark.parametrize(
    ("size", "seed", "printed"), [(10, 1771457935, 10.192), (20, 590590962, 10.146), (30, 273992574, 10.257)]
)
def test_bias_of_a_mean(size: int, seed: int, printed: float) -> None:
    samples = 10 + 5 * _r_normals(seed, 50 * size).reshape(50, size)
    fixed = {
        "study": "toy",
        "parameter": "mean",
        "truth": 10.0,
        "status": "converged",
        "seconds": 0.0,
        "seed": str(seed),
    }
    table = pd.DataFrame(
        {
            "replicate": range(50),
            "estimate": samples.mean(axis=1),
            "se": samples.std(axis=1, ddof=1) / size**0.5,
            **fixed,
        }
    )
    found = measures(table).set_index("measure")["value"]
    assert found["bias"] == pytest.approx(printed - 10, abs=5.1e-4)
    # Planted: the neighbouring seed gives another bias.
    assert abs(np.mean(5 * _r_normals(seed + 1, 50 * size)) - found["bias"]) > 1e-3
