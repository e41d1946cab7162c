"""What data may look like, and the error a user meets when it does not."""

import numpy as np
import pandas as pd
import pytest
import torch

import eeqs
from eeqs.engine.data import as_sample, cluster_codes

VALUES = [1.0, 0.0, 4.0]

GOOD = {
    "list": VALUES,
    "float16": np.array(VALUES, dtype=np.float16),
    "float32 tensor": torch.tensor(VALUES),
    "int8": np.array(VALUES, dtype=np.int8),
    "int32": np.array(VALUES, dtype=np.int32),
    "int32 tensor": torch.tensor(VALUES).int(),
    "uint8 tensor": torch.tensor(VALUES).to(torch.uint8),
    "int64": np.array(VALUES, dtype=np.int64),
    "uint64": np.array(VALUES, dtype=np.uint64),
    "big endian": np.array(VALUES, dtype=">f8"),
    "long double": np.array(VALUES, dtype=np.longdouble),
    "reversed view": np.array(VALUES)[::-1][::-1],
    "Series": pd.Series(VALUES, index=[7, 8, 9]),
    "nullable Int64": pd.array([1, 0, 4], dtype="Int64"),
    "nullable Float64": pd.Series(VALUES, dtype="Float64"),
    "category of numbers": pd.Series(pd.Categorical(VALUES)),
    "requires grad": torch.tensor(VALUES, dtype=torch.float64, requires_grad=True),
}


@pytest.mark.parametrize("column", GOOD.values(), ids=GOOD.keys())
def test_real_columns_become_float64(column):
    leaf = as_sample({"y": column}).leaves["y"]
    assert leaf.dtype == torch.float64
    assert not leaf.requires_grad
    assert leaf.tolist() == VALUES


@pytest.mark.parametrize(
    "column",
    [np.array([True, False, True]), torch.tensor([True, False, True]), pd.array([True, False, True], dtype="boolean")],
    ids=["numpy", "tensor", "nullable"],
)
def test_booleans_become_zeros_and_ones(column):
    assert as_sample({"y": column}).leaves["y"].tolist() == [1.0, 0.0, 1.0]


BAD = {
    "nan": ([1.0, np.nan, np.nan], r'"y" has 2 row\(s\) with NaN.* first at row 1; drop or impute'),
    "inf": ([1.0, 2.0, np.inf], r'"y" has 1 row\(s\) with NaN or infinite values, first at row 2'),
    "nan tensor": (torch.tensor([np.nan, 1.0]), r'"y".*first at row 0'),
    "nan in the second axis": ([[1.0, 2.0], [1.0, np.nan]], r'"y" has 1 row\(s\).*first at row 1'),
    "missing Int64": (pd.array([1, None, 3], dtype="Int64"), r'"y" has 1 row\(s\) with NaN or missing.*first at row 1'),
    "None": ([1.0, None, 2.0], '"y" has dtype object, which is not numeric; encode it'),
    "object": (np.array([1, "a"], dtype=object), '"y" has dtype object'),
    "string array": (np.array(["a", "b"]), '"y" has dtype <U1, which is not numeric'),
    "string series": (pd.Series(["a", "b"]), '"y" has dtype (str|object), which is not numeric'),
    "category": (pd.Series(pd.Categorical(["a", "b"])), '"y" has dtype category'),
    "datetime series": (pd.Series(pd.date_range("2020", periods=3)), '"y" has dtype datetime64'),
    "datetime array": (np.array(["2020-01-01"], dtype="datetime64[D]"), '"y" has dtype datetime64'),
    "timedelta": (pd.Series(pd.to_timedelta([1, 2], unit="D")), '"y" has dtype timedelta64'),
    "complex": (np.array([1j, 2.0]), '"y" is complex; split it'),
    "complex tensor": (torch.tensor([1j]), '"y" is complex'),
    "scalar": (3.0, '"y" is a scalar; every column needs a leading axis'),
    "empty": ([], "data has no rows"),
    "large integer": ([2**53 + 1, 1], r'"y" holds integers beyond 2\*\*53'),
    "large negative integer": (np.array([-(2**63), 1]), r'"y" holds integers beyond 2\*\*53'),
    "large integer tensor": (torch.tensor([2**53 + 1]), r'"y" holds integers beyond 2\*\*53'),
    "large unsigned integer": (np.array([2**63], dtype=np.uint64), r'"y" holds integers beyond 2\*\*53'),
    "large nullable integer": (pd.array([1, 2**53 + 1], dtype="Int64"), r'"y" holds integers beyond 2\*\*53'),
    "ragged": ([[1.0], [2.0, 3.0]], '"y"'),
}


@pytest.mark.parametrize(("column", "message"), BAD.values(), ids=BAD.keys())
def test_bad_column_is_named(column, message):
    with pytest.raises(eeqs.DataError, match=message):
        as_sample({"y": column})


def test_largest_exact_integer_is_kept():
    assert as_sample({"y": np.array([2**53, -(2**53)])}).leaves["y"].tolist() == [2.0**53, -(2.0**53)]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"y": [1.0, 2.0], "x": [1.0]}, {}, r'"x" has leading shape \(1,\) but "y" has \(2,\)'),
        (([1.0, 2.0], [1.0]), {}, r'"data\[1\]" has leading shape'),
        ({"wages": [1.0], "age": [1.0]}, {"columns": ["wage"]}, 'unknown column "wage"; did you mean "wages"'),
        ({"a": [1.0]}, {"columns": ["zzz"]}, r"""unknown column "zzz"; the data has \['a'\]"""),
        (pd.DataFrame([[1.0, 2.0]], columns=["y", "y"]), {}, 'column "y" appears more than once'),
        ({}, {}, "data has no columns"),
        ((), {}, "data has no columns"),
        (([1.0],), {"columns": ["y"]}, r"""psi needs the columns \['y'\]; pass a DataFrame or a mapping"""),
        ("abc", {}, "data is a str; pass a DataFrame"),
        ({"y": [1.0]}, {"batched": True}, r'"y" has shape \(1,\); batched data is \(R, n'),
    ],
)
def test_bad_data_is_explained(data, options, message):
    with pytest.raises(eeqs.DataError, match=message):
        as_sample(data, **options)


def test_containers_agree():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}, index=["i", "j"])
    named = as_sample(frame)
    mapped = as_sample({"a": frame["a"], "b": frame["b"].to_numpy()})
    positional = as_sample((torch.tensor([1.0, 2.0]), [3, 4]))
    assert list(named.index) == ["i", "j"]
    assert mapped.index is None
    for name, leaf in zip("ab", positional.leaves, strict=True):
        assert torch.equal(named.leaves[name], mapped.leaves[name])
        assert torch.equal(named.leaves[name], leaf)
    assert as_sample(torch.zeros(4, 2)).leaves[0].shape == (4, 2)


def test_columns_that_psi_does_not_read_are_not_checked():
    frame = pd.DataFrame({"y": [1.0, 2.0], "note": ["a", None], "gap": [np.nan, 1.0]})
    assert list(as_sample(frame, columns=["y"]).leaves) == ["y"]
    assert list(as_sample(frame, skip=["note", "gap"]).leaves) == ["y"]


def test_data_is_not_changed():
    column = np.array(VALUES)
    column.flags.writeable = False
    leaf = as_sample({"y": column}).leaves["y"]
    leaf[0] = 99.0
    assert column.tolist() == VALUES


def test_replicates_have_two_leading_axes():
    sample = as_sample({"y": torch.zeros(5, 7), "x": torch.zeros(5, 7, 2)}, batched=True)
    assert (sample.replicates, sample.n) == (5, 7)


@pytest.mark.parametrize(
    "labels", [["a", "b", "a"], [3, 1, 3], [0.5, -1.0, 0.5], pd.Categorical(["u", "v", "u"]), torch.tensor([5, 2, 5])]
)
def test_any_labels_make_cluster_codes(labels):
    assert cluster_codes({"g": labels}, "g").tolist() == [0, 1, 0]
    assert cluster_codes({}, labels).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("data", "by", "message"),
    [
        ({"firm": [1, 2]}, "firms", 'unknown column "firms"; did you mean "firm"'),
        ({"firm": ["a", None, None]}, "firm", r'cluster column "firm": 2 missing label\(s\), first at row 1'),
        ({"firm": [1.0, np.nan]}, "firm", r'cluster column "firm": 1 missing label\(s\), first at row 1'),
        ({"firm": ["a", "a"]}, "firm", 'cluster column "firm": every observation has the same label'),
        ({}, ["a", "a"], "cluster labels: every observation has the same label"),
        (([1.0],), "firm", 'cluster column "firm" needs named data'),
    ],
)
def test_bad_clusters_are_named(data, by, message):
    with pytest.raises(eeqs.DataError, match=message):
        cluster_codes(data, by)
