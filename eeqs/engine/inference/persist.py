"""Results in a JSON file: every number to its last bit, no code in the file, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from eeqs.engine.errors import DataError, Status
from eeqs.engine.inference.result import Estimate
from eeqs.engine.solve import Solution

__all__ = ["load", "save"]

_FORMAT, _VERSION = "eeqs estimate", 1
# Numbers that JSON does not have.
_SPECIAL = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def save(fit: Estimate, path: str | Path, *, influence: bool = False) -> None:
    """Write a fit to a JSON file.

    Parameters
    ----------
    fit : Estimate
    path : str or Path
        The file; replaced in one step when it exists.
    influence : bool
        Write the influence of every row too, next to it as ``<stem>.influence.parquet`` (needs pyarrow).

    Raises
    ------
    DataError
        If the influence is asked of a fit with frequency weights, or of one that was loaded without.
    """
    path = Path(path)
    companion = path.with_name(f"{path.stem}.influence.parquet") if influence else None
    if companion is not None:
        if fit.problem is not None and fit.problem.psi.counts is not None:
            raise DataError("the influence of rows with frequency weights has no meaning without the weights.")
        rows = fit.influence()
        _replace(companion, rows.to_parquet)
    text = json.dumps(_content(fit, companion), allow_nan=False, indent=1)
    _replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def load(path: str | Path) -> Estimate:
    """Read a fit that `Estimate.save` wrote.

    Everything works on it that needs the estimates and their covariance only; what needs the data, such as
    `Estimate.leave_one_out`, raises `DataError`, and `Estimate.influence` does unless it was saved too.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Estimate
        On the CPU, with ``problem`` None.

    Raises
    ------
    DataError
        If the file is not JSON, not of this format and version, or incomplete or inconsistent.
    FileNotFoundError
        If it does not exist.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f'"{path}" is not a JSON file: {error}.') from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise DataError(f'"{path}" is not a saved estimate.')
    if content.get("version") != _VERSION:
        raise DataError(
            f'"{path}" has format version {content.get("version")!r}, and this release of eeqs reads version '
            f"{_VERSION}; use the release {content.get('eeqs')!r} that wrote it."
        )
    try:
        return _estimate(content, path)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f'"{path}" is damaged: {reason}') from error


def _content(fit: Estimate, companion: Path | None) -> dict[str, Any]:
    from eeqs import __version__

    solution = fit.solution
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "eeqs": __version__,
        "names": list(fit.names),
        "nobs": fit.nobs,
        "cov_type": fit.cov_type,
        "df": fit.df,
        "status": solution.status.name,
        "iterations": int(solution.iterations),
        "residual_norm": _numbers(float(solution.residual_norm)),
        "condition": _numbers(float(solution.condition)),
        "theta": _numbers(solution.theta),
        **{key: _numbers(getattr(fit, key)) for key in ("bread", "meat", "covariance", "inverse")},
        "null": None if fit.null is None else _numbers(fit.null),
        "influence": None if companion is None else companion.name,
    }


def _numbers(value: Any) -> Any:
    """Nested lists of floats, whose decimal repr is exact, and the three strings of `_SPECIAL`."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return value if np.isfinite(value) else str(value)


def _estimate(content: dict[str, Any], path: Path) -> Estimate:
    names = tuple(content["names"])
    p = len(names)
    if p == 0 or not all(isinstance(name, str) for name in names) or not isinstance(content["cov_type"], str):
        raise ValueError("names or cov_type are not text.")
    if content["status"] not in Status.__members__:
        raise ValueError(f"unknown status {content['status']!r}.")
    bread = _tensor(content, "bread", (None, p))
    q = len(bread)
    solution = Solution(
        _tensor(content, "theta", (p,)),
        Status[content["status"]],
        int(content["iterations"]),
        float(_tensor(content, "residual_norm", ())),
        float(_tensor(content, "condition", ())),
    )
    if isinstance(content["nobs"], bool) or not isinstance(content["nobs"], int | float) or not content["nobs"] > 0:
        raise ValueError(f"nobs is {content['nobs']!r}.")
    fit = Estimate(
        solution,
        bread,
        _tensor(content, "meat", (q, q)),
        _tensor(content, "covariance", (p, p)),
        _tensor(content, "inverse", (p, q)),
        names,
        content["nobs"],
        content["cov_type"],
        None,
        None if content["null"] is None else _tensor(content, "null", (p, None)),
        saved_influence=None if content["influence"] is None else _rows(path, content["influence"], names),
    )
    return fit.with_df(content["df"])


def _tensor(content: dict[str, Any], key: str, shape: tuple[int | None, ...]) -> Tensor:
    """Read numbers of a shape, None for any length."""
    value = torch.tensor(_parsed(content[key], key), dtype=torch.float64)
    if value.ndim == 1 and len(shape) == 2 and value.numel() == 0:
        value = value[:, None]
    if value.ndim != len(shape) or any(want not in (None, got) for want, got in zip(shape, value.shape, strict=True)):
        raise ValueError(f'"{key}" has shape {tuple(value.shape)}.')
    return value


def _parsed(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_parsed(part, key) for part in value]
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f'"{key}" holds {value!r}, which is not a number.')
    return float(value)


def _rows(path: Path, name: str, names: tuple[str, ...]) -> pd.DataFrame:
    if Path(name).name != name:
        raise ValueError(f"its influence is in another directory, {name!r}.")
    companion = path.with_name(name)
    if not companion.exists():
        raise ValueError(f'its influence "{companion}" is missing; keep the two files together.')
    rows = pd.read_parquet(companion)
    if tuple(rows.columns) != names:
        raise ValueError(f'"{companion}" has the columns {list(rows.columns)}.')
    return rows


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside ``path`` and rename, so that a reader never sees half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
