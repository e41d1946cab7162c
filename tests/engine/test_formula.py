"""Formulas: the designs of patsy, new data, batches, columns beside the formula, and errors."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch

import eeqs

M = eeqs.moments


@pytest.fixture
def data(frame):
    """The common frame, with a categorical regressor, a numeric factor, an exposure and rows labelled out of order."""
    rng = np.random.default_rng(5)
    extra = {
        "g": np.array(["a", "b", "c"])[rng.integers(0, 3, len(frame))],
        "level": rng.integers(1, 4, len(frame)),
        "group": rng.integers(1, 3, len(frame)),
        "o": rng.uniform(-0.2, 0.2, len(frame)),
        "code": rng.integers(0, 3, len(frame)),
        "positive": rng.gamma(2, size=len(frame)),
        "flag": rng.uniform(size=len(frame)) < 0.5,
    }
    return frame.assign(**extra).set_index(rng.permutation(len(frame)))


@pytest.mark.parametrize(
    "right",
    [
        "x + z",
        "x * z",
        "x + C(level)",
        "g",
        "x * g",
        "0 + x + g",
        "0 + x",
        "np.exp(x) + I(z**2)",
        "x:g + z",
        "flag + x",
    ],
)
def test_designs_are_those_of_patsy(data, right):
    """The models of statsmodels, whose formulas patsy reads; the order of columns may differ, names hardly do."""
    fit = eeqs.estimate(M.least_squares.from_formula(f"y ~ {right}", data), data)
    expected = smf.ols(f"y ~ {right}", data).fit(cov_type="HC0")
    names = expected.params.index.str.replace(" ", "").str.replace("[T.True]", "", regex=False)
    ours = fit.params.set_axis(fit.params.index.str.replace(" ", ""))
    assert sorted(ours.index) == sorted(names)
    np.testing.assert_allclose(ours[names], expected.params, rtol=1e-8)
    errors = fit.bse.set_axis(ours.index)
    np.testing.assert_allclose(errors[names], expected.bse, rtol=1e-8)


def test_likelihood_models_and_transformed_responses(data):
    logit = eeqs.estimate(M.logit.from_formula("binary ~ x + C(level)", data), data)
    expected = smf.logit("binary ~ x + C(level)", data).fit(disp=0, tol=1e-12, cov_type="HC0")
    np.testing.assert_allclose(logit.params[expected.params.index], expected.params, rtol=1e-7)
    np.testing.assert_allclose(logit.bse[expected.params.index], expected.bse, rtol=1e-7)
    logs = eeqs.estimate(M.least_squares.from_formula("np.log(positive) ~ x", data), data)
    direct = eeqs.estimate(M.least_squares("logs", ["x"]), data.assign(logs=np.log(data["positive"])))
    np.testing.assert_allclose(logs.params, direct.params, rtol=1e-12)


def test_further_arguments_follow_the_formula(data):
    """Categories by position; weights and offsets by name, read beside the formula."""
    psi = M.multinomial_logit.from_formula("code ~ x + g", data, [0, 1, 2])
    assert psi.names[:4] == ("1:Intercept", "1:x", "1:g[T.b]", "1:g[T.c]")
    dummies = data.assign(b=(data["g"] == "b").astype(float), c=(data["g"] == "c").astype(float))
    direct = eeqs.estimate(M.multinomial_logit("code", ["x", "b", "c"], [0, 1, 2]), dummies)
    np.testing.assert_allclose(eeqs.estimate(psi, data).params, direct.params, rtol=1e-9, atol=1e-12)
    options = {"weights": "w", "offset": "o"}
    fit = eeqs.estimate(M.poisson.from_formula("count ~ x + g", data, **options), data)
    direct = eeqs.estimate(M.poisson("count", ["x", "b", "c"], **options), dummies)
    np.testing.assert_allclose(fit.params, direct.params, rtol=1e-9)
    np.testing.assert_allclose(fit.bse, direct.bse, rtol=1e-9)
    robust = eeqs.estimate(M.huber.from_formula("y ~ x", data), data)
    np.testing.assert_allclose(robust.params, eeqs.estimate(M.huber("y", ["x"]), data).params, rtol=1e-9)


def test_weights_around_a_formula(data):
    """`eeqs.weight` reads its column beside the formula too."""
    psi = eeqs.weight(M.logit.from_formula("binary ~ x + g", data), "w", kind="frequency")
    repeated = data.loc[data.index.repeat(data["w"])]
    expected = eeqs.estimate(M.logit.from_formula("binary ~ x + g", data), repeated)
    fit = eeqs.estimate(psi, data)
    np.testing.assert_allclose(fit.params, expected.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse, expected.bse, rtol=1e-8)


def test_clusters_may_be_text(data):
    direct = eeqs.estimate(M.logit("binary", ["x", "z"]), data, cov=eeqs.Cluster("firm"))
    fit = eeqs.estimate(M.logit.from_formula("binary ~ x + z", data), data, cov=eeqs.Cluster("firm"))
    np.testing.assert_allclose(fit.cov_params(), direct.cov_params(), rtol=1e-10)
    correlated = M.gee.from_formula("y ~ x", data, groups="firm", correlation=M.correlations.Exchangeable())
    direct = M.gee("y", ["x"], groups="firm", correlation=M.correlations.Exchangeable())
    np.testing.assert_allclose(eeqs.estimate(correlated, data).params, eeqs.estimate(direct, data).params, rtol=1e-8)


@pytest.mark.parametrize("kind", ["arrays", "tensors", "lists", "series"])
def test_mappings_are_data_too(data, kind):
    columns = ["count", "x", "z", "g"]
    convert = {"arrays": np.asarray, "lists": list, "series": lambda column: column}.get(kind, np.asarray)
    mapping = {name: convert(data[name]) for name in columns}
    if kind == "tensors":
        mapping |= {name: torch.from_numpy(np.array(mapping[name])) for name in ("count", "x", "z")}
    mapping["wide"] = np.zeros((len(data), 2))  # not read, and not flat
    psi = M.poisson.from_formula("count ~ x + z + g", mapping)
    fit = eeqs.estimate(psi, mapping)
    np.testing.assert_allclose(fit.params, eeqs.estimate(psi, data).params, rtol=1e-12)


def test_batches_take_levels_and_transformations_of_the_first_data(data):
    """A batch without a level has its column all the same, and `scale` keeps its mean and deviation."""
    ordered = data.sort_values("g")
    psi = M.logit.from_formula("binary ~ scale(x) + g", data)
    whole = eeqs.estimate(psi, data, cov=eeqs.Cluster("firm"))
    batches = [ordered.iloc[i : i + 40] for i in range(0, len(data), 40)]
    streamed = eeqs.estimate(psi, lambda: iter(batches), cov=eeqs.Cluster("firm"))
    assert batches[0]["g"].nunique() < 3
    np.testing.assert_allclose(streamed.params, whole.params, rtol=1e-9)
    np.testing.assert_allclose(streamed.cov_params(), whole.cov_params(), rtol=1e-8)


def test_a_parquet_file_by_formula(data, tmp_path):
    path = tmp_path / "data.parquet"
    data.reset_index(drop=True).to_parquet(path)
    psi = M.least_squares.from_formula("y ~ x * g", data.head(60))
    np.testing.assert_allclose(eeqs.estimate(psi, path).params, eeqs.estimate(psi, data).params, rtol=1e-9)


def test_order_of_rows_does_not_matter(data):
    """Row labels out of order, and repeated ones, do not move a factor against the other columns."""
    psi = M.least_squares.from_formula("y ~ x + C(level)", data)
    expected = eeqs.estimate(psi, data).params
    for labels in (np.zeros(len(data), dtype=int), np.arange(len(data))[::-1]):
        np.testing.assert_allclose(eeqs.estimate(psi, data.set_index(labels)).params, expected, rtol=1e-12)


def test_formulas_in_a_stack(data):
    psi = eeqs.stack(
        outcome=M.least_squares.from_formula("y ~ x + g", data), arm=M.logit.from_formula("binary ~ x", data)
    )
    fit = eeqs.estimate(psi, data)
    alone = eeqs.estimate(M.least_squares.from_formula("y ~ x + g", data), data)
    np.testing.assert_allclose(fit.params.iloc[:4], alone.params, rtol=1e-8)
    np.testing.assert_allclose(fit.bse.iloc[:4], alone.bse, rtol=1e-8)


def test_a_regressor_may_be_called_response(data):
    renamed = data.rename(columns={"x": "response"})
    fit = eeqs.estimate(M.least_squares.from_formula("y ~ response", renamed), renamed)
    assert fit.params["response"] == pytest.approx(eeqs.estimate(M.least_squares("y", ["x"]), data).params["x"])


def test_a_factor_of_a_transformation(data):
    """Levels belong to the transformed values, so new values of the column are no new levels."""
    psi = M.least_squares.from_formula("y ~ C(x > 0)", data.head(80))
    fit = eeqs.estimate(psi, data)
    direct = eeqs.estimate(M.least_squares("y", ["up"]), data.assign(up=(data["x"] > 0).astype(float)))
    np.testing.assert_allclose(fit.params, direct.params, rtol=1e-12)


@pytest.mark.parametrize(
    ("formula", "change", "message"),
    [
        ("y ~ x + g", {"g": "z"}, 'column "g" has the level "z"'),
        ("y ~ x + C(level)", {"level": 9}, r'column "level" has the level "9"'),
        ("y ~ C(group) + C(level)", {"level": 9}, r'column "level" has the level "9"'),
        ("y ~ g", {"g": 1.0}, 'column "g" has the level "1.0"'),
        ("y ~ C(level * 2)", {"level": 9}, "categories outside of the nominated levels"),
        ("y ~ x", {"x": "text"}, "does not fit the data"),
        ("y ~ x", {"x": np.nan}, r'column "x" has 150 row\(s\) with missing values, first at row 0; drop or impute'),
        ("y ~ g", {"g": None}, r'column "g" has 150 row\(s\) with missing values'),
        ("y ~ I(x / 2)", {"x": np.inf}, r'column "I\(x / 2\)" has 150 row\(s\) with NaN or infinite'),
        ("binary ~ x", {"binary": 2.0}, r'response "binary" has values outside \[0, 1\]'),
    ],
)
def test_later_data_must_fit_the_formula(data, formula, change, message):
    psi = (M.logit if formula.startswith("binary") else M.least_squares).from_formula(formula, data)
    with pytest.raises(eeqs.DataError, match=message):
        eeqs.solve(psi, data.assign(**change))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y ~ absent", "does not fit the data: .*absent"),
        ("y ~ (", "does not fit the data"),
        ("x + z", "does not have one response and one right side"),
        ("y ~ x | z", "does not have one response and one right side"),
        ("g ~ x", r"makes the columns \['g\[a\]', 'g\[b\]', 'g\[c\]'\]; it must make one"),
        ("y + z ~ x", r"makes the columns \['y', 'z'\]"),
        ("y ~ 0", "a regression needs a regressor or an intercept"),
        ("y ~ frame", "does not fit the data"),
        ("y ~ C(g, levels=['a', 'b'])", "categories outside of the nominated levels"),
    ],
)
def test_a_formula_that_cannot_be_read(data, formula, message):
    """Among them a name in scope of the implementation that is no column."""
    with pytest.raises(eeqs.DataError, match=message):
        M.least_squares.from_formula(formula, data)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda data: M.logit.from_formula("binary ~ x", data, intercept=False), ValueError, 'write "y ~ 0 . x"'),
        (lambda data: M.logit.from_formula("binary ~ x", data.to_numpy()), eeqs.DataError, "needs named columns"),
        (
            lambda _: M.logit.from_formula("binary ~ x", {"binary": [0, 1], "x": [1.0]}),
            eeqs.DataError,
            "the columns have different lengths",
        ),
        (
            lambda data: M.logit.from_formula("binary ~ x", pd.concat([data, data[["x"]]], axis=1)),
            eeqs.DataError,
            'column "x" appears more than once',
        ),
        (
            lambda data: M.logit.from_formula("binary ~ x", data.assign(x=data["x"].where(data["x"] < 1))),
            eeqs.DataError,
            'column "x" has .* missing values',
        ),
        (
            lambda data: eeqs.solve(M.logit.from_formula("binary ~ x", data), data.drop(columns="x")),
            eeqs.DataError,
            'unknown column "x"',
        ),
        (
            lambda data: eeqs.solve(M.logit.from_formula("binary ~ x", data, weights="absent"), data),
            eeqs.DataError,
            'unknown column "absent"',
        ),
    ],
)
def test_misuse_is_named(data, make, error, message):
    with pytest.raises(error, match=message):
        make(data)
