"""What `eeqs.stack` refuses, at the door and when it sees the data."""

import numpy as np
import pytest
import torch

import eeqs
from eeqs import moments


def weighting(theta, data, propensity):
    return data["y"] / torch.sigmoid(propensity[0] + propensity[1] * data["x"]) - theta


@pytest.fixture
def numbers(frame):
    return frame.drop(columns="firm")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"a": weighting}, 'psi of block "a" asks for "propensity"; there is no earlier block'),
        (
            {"m": moments.mean("y"), "ate": weighting, "propensity": moments.logit("binary", ["x"])},
            r'asks for "propensity"; the earlier blocks are \[\'m\'\]',
        ),
        ({"m": lambda theta, data, m: data["y"] - m - theta}, 'asks for "m"; there is no earlier block'),
        (
            {"m": moments.mean("y"), "v": eeqs.EstimatingFunction(weighting, start=lambda _, mean: mean)},
            'asks for "propensity"',
        ),
        (
            {"m": moments.mean("y"), "v": eeqs.EstimatingFunction(torch.sub, start=lambda _, mean: mean)},
            'start of block "v" asks for "mean"',
        ),
        ({}, "name at least one block"),
        ({"m": 3.0}, "psi is a float"),
    ],
)
def test_bad_stacks_are_refused_at_the_door(blocks, message):
    with pytest.raises(eeqs.PsiError, match=message):
        eeqs.stack(**blocks)


@pytest.mark.parametrize(
    ("psi", "message"),
    [
        (lambda theta, data: torch.stack([data["y"], data["x"]], dim=1) - theta, r"returned shape \(150, 2\)"),
        (lambda _, data: data["y"].numpy() - 1.0, "returned a ndarray"),
        (lambda theta, data: data["y"].mean() - theta.sum(), r"returned shape \(\)"),
    ],
)
def test_a_block_must_return_one_equation_a_parameter(numbers, psi, message):
    with pytest.raises(eeqs.PsiError, match=f'block "wrong" {message}'):
        eeqs.estimate(eeqs.stack(m=moments.mean("y"), wrong=psi), numbers)


@pytest.mark.parametrize("data", [{"x": np.arange(9.0)}, (np.arange(9.0),)])
def test_a_missing_column_is_named(data):
    """A plain block reads all columns, so the columns of the others are looked up when they are prepared."""
    psi = eeqs.stack(m=moments.mean("y"), other=lambda theta, data: data["x"] - theta)
    with pytest.raises(eeqs.DataError, match='block "m" reads the unknown column "y"'):
        eeqs.solve(psi, data)


def test_too_few_rows_for_a_block_end_in_a_status(numbers):
    psi = eeqs.stack(line=moments.least_squares("y", ["x", "z"]), m=moments.mean("y"))
    assert eeqs.solve(psi, numbers.iloc[:2]).status is not eeqs.Status.CONVERGED
