"""check_jacobian: passes every correct bread, in any units, and fails wrong ones."""

import numpy as np
import pytest
import torch

import eeqs

MOMENTS = {
    "mean": (eeqs.moments.mean("y", "x"), [0.1, 0.2]),
    "variance": (eeqs.moments.variance("y", "x"), [0.1, 0.2, 1.5, 2.0]),
    "least squares": (eeqs.moments.least_squares("y", ["x", "z"]), [0.3, -1.0, 2.0]),
    "logit": (eeqs.moments.logit("binary", ["x", "z"]), [0.3, -1.0, 2.0]),
    "poisson": (eeqs.moments.poisson("count", ["x", "z"]), [0.3, -1.0, 2.0]),
    "weighted": (eeqs.weight(eeqs.moments.logit("binary", ["x"]), "w"), [0.3, -1.0]),
    "loss": (eeqs.from_loss(lambda t, d: (d["y"] - t[0] - t[1] * d["x"]).cosh().log(), columns=("y", "x")), [0.1, 0.4]),
}


@pytest.mark.parametrize(("psi", "theta"), MOMENTS.values(), ids=MOMENTS.keys())
def test_correct_breads_pass(frame, psi, theta):
    report = eeqs.check_jacobian(psi, theta, frame)
    assert report.passed
    # Richardson extrapolation leaves about 1e-10; the accepted 1e-6 is far above it.
    assert report.worst < 1e-8
    assert len(report.table) == len(theta) ** 2
    assert "agrees with finite differences" in str(report)


def _logit_with_bread(change):
    psi = eeqs.moments.logit("binary", ["x", "z"])
    return eeqs.EstimatingFunction(
        psi.psi, psi.names, psi.columns, psi.prepare, psi.start, lambda t, d: change(psi.mean_jacobian(t, d))
    )


def _zero_entry(bread):
    bread = bread.clone()
    bread[1, 2] = 0
    return bread


WRONG = {
    "doubled": lambda a: 2 * a,
    "sign": lambda a: -a,
    "not transposed": lambda a: a + torch.triu(0.01 * a.abs(), 1),
    "one entry": _zero_entry,
    "1e-5 off": lambda a: a * (1 + 1e-5),
    "nan": lambda a: a * torch.nan,
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_wrong_breads_fail(frame, change):
    report = eeqs.check_jacobian(_logit_with_bread(change), [0.3, -1.0, 2.0], frame)
    assert not report.passed
    assert "DIFFERS FROM" in str(report)


def test_the_table_points_at_the_wrong_entry(frame):
    table = eeqs.check_jacobian(_logit_with_bread(_zero_entry), [0.3, -1.0, 2.0], frame).table
    worst = table.loc[table["relative_difference"].idxmax()]
    assert (worst["equation"], worst["parameter"]) == ("x", "z")


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_units_do_not_matter(frame, unit):
    scaled = frame.assign(x=unit * frame["x"], z=frame["z"] / unit)
    theta = [0.3, -1.0 / unit, 2.0 * unit]
    psi = eeqs.moments.logit("binary", ["x", "z"])
    assert eeqs.check_jacobian(psi, theta, scaled).passed
    wrong = eeqs.check_jacobian(_logit_with_bread(_zero_entry), theta, scaled)
    assert not wrong.passed
    original = eeqs.check_jacobian(_logit_with_bread(_zero_entry), [0.3, -1.0, 2.0], frame)
    assert wrong.worst == pytest.approx(original.worst, rel=1e-4)


def test_tolerance_decides(frame):
    slightly_wrong = _logit_with_bread(lambda a: a * (1 + 1e-5))
    assert eeqs.check_jacobian(slightly_wrong, [0.3, -1.0, 2.0], frame, tolerance=1e-3).passed


def test_step_function_shows_no_bread_to_differences():
    """The kernel bread of a median is not the derivative of its psi, which is zero almost everywhere."""
    data = {"y": np.linspace(-1, 1, 101) ** 3}
    assert not eeqs.check_jacobian(eeqs.moments.quantile("y"), [0.05001], data).passed


def test_psi_that_is_not_finite_is_refused():
    with pytest.raises(eeqs.PsiError, match="NaN or infinite"):
        eeqs.check_jacobian(lambda t, d: torch.log(d["y"] - t), [2.0], {"y": [1.0, 3.0]})
