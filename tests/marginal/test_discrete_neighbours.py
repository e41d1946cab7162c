"""Nearest neighbours in an embedding table, and the perturbation that draws among them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from eeqs.marginal.discrete import Neighbours, SemanticNeighbour, cosine_distance, nearest, squared_distance


def table(v, d, seed=0):
    return torch.randn(v, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("distance", "metric"), [(squared_distance, "sqeuclidean"), (cosine_distance, "cosine")])
@pytest.mark.parametrize("k", [1, 5, 39])
def test_against_all_distances(distance, metric, k):
    rows = table(40, 4)
    full = cdist(rows, rows, metric)
    np.fill_diagonal(full, np.inf)
    order = np.argsort(full, axis=1)[:, :k]
    found = nearest(rows, k, distance)
    np.testing.assert_array_equal(found.ids, order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(full, order, 1), rtol=1e-10)


def test_distances_are_held_a_block_at_a_time():
    shapes = []

    def spy(a, b):
        shapes.append((len(a), len(b)))
        return squared_distance(a, b)

    rows = table(3000, 2)
    found = nearest(rows, 3, spy)
    assert sum(n for n, _ in shapes) == 3000
    assert max(n * m for n, m in shapes) <= 2**20 < 3000**2
    few = torch.tensor([0, 1499, 2999])
    full = squared_distance(rows[few], rows)
    full[torch.arange(3), few] = torch.inf
    assert torch.equal(found.ids[few], full.topk(3, largest=False).indices)


@given(v=st.integers(2, 12), levels=st.integers(1, 3), seed=st.integers(0, 99), data=st.data())
def test_ties_go_to_the_lower_id(v, levels, seed, data):
    # Whole numbers, whose distances are exact and tie often.
    rows = torch.randint(levels, (v, 2), generator=torch.Generator().manual_seed(seed)).double()
    k = data.draw(st.integers(1, v - 1))
    full = cdist(rows, rows, "sqeuclidean")
    expected = [sorted((full[i, j], j) for j in range(v) if j != i)[:k] for i in range(v)]
    found = nearest(rows, k)
    assert found.ids.tolist() == [[j for _, j in row] for row in expected]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype):
    rows = table(20, 3).to(dtype).requires_grad_()
    found = nearest(rows, 2)
    assert found.ids.dtype == torch.int64
    assert found.distances.dtype == torch.promote_types(dtype, torch.float32)
    assert not found.distances.requires_grad


def with_row(value):
    rows = table(5, 2)
    rows[3] = value
    return rows


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nearest(torch.zeros(4), 1), r"table is torch.float32 of shape \(4,\)"),
        (lambda: nearest(torch.zeros(4, 2, dtype=torch.int64), 1), "table is torch.int64"),
        (lambda: nearest(table(4, 2), 4), "k is 4; a token of a table of 4 has at most 3"),
        (lambda: nearest(table(4, 2), 0), "k is 0"),
        (lambda: nearest(with_row(math.nan), 2), "Row 3 of the table has no 2 neighbours"),
        (lambda: nearest(with_row(math.inf), 2), "Row 3 of the table"),
        (lambda: nearest(with_row(0.0), 2, cosine_distance), "Row 3 of the table"),
        (lambda: Neighbours(torch.zeros(3, 2), torch.zeros(3, 1)), r"ids has shape \(3, 2\)"),
    ],
)
def test_bad_tables_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LINE = nearest(torch.tensor([[0.0], [1.0], [3.0]]), 2)


def test_temperature_between_nearest_and_uniform():
    # Token 0 is at squared distance 1 of token 1 and 9 of token 2.
    for temperature in (0.5, 4.0):
        law = SemanticNeighbour(LINE, temperature, 1.0).outcomes([0])
        assert law[1,] / law[2,] == pytest.approx(math.exp(8 / temperature))
    assert SemanticNeighbour(LINE, 1e-300, 1.0).outcomes([0]) == {(1,): 1.0}
    assert SemanticNeighbour(LINE, 1e300, 1.0).outcomes([0]) == pytest.approx({(1,): 0.5, (2,): 0.5})


def test_results_are_plain_integers():
    assert {type(i) for i in SemanticNeighbour(LINE, 1.0, 0.5)([0, 1, 2] * 10, np.random.default_rng(0))} == {int}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SemanticNeighbour(torch.zeros(3, 2), 1.0, 0.1), TypeError, r"pass nearest\(table, k\)"),
        (lambda: SemanticNeighbour(LINE, 0.0, 0.1), ValueError, "temperature is 0.0"),
        (lambda: SemanticNeighbour(LINE, math.inf, 0.1), ValueError, "temperature is inf"),
        (lambda: SemanticNeighbour(LINE, math.nan, 0.1), ValueError, "temperature is nan"),
        (lambda: SemanticNeighbour(LINE, 1.0, 1.5), ValueError, "rate is 1.5"),
        (lambda: SemanticNeighbour(LINE, 1.0, 0.5).outcomes([0, 3]), ValueError, "Token 3 is outside"),
        (lambda: SemanticNeighbour(LINE, 1.0, 0.0).outcomes([-1]), ValueError, "Token -1 is outside"),
        (lambda: SemanticNeighbour(LINE, 1.0, 0.0).outcomes(["dog"]), TypeError, "Token 'dog' is a str"),
    ],
)
def test_bad_settings_and_tokens_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
