"""What the figures of the study ``ood`` share: order, names and looks of methods, regimes and test sets."""

from __future__ import annotations

import pandas as pd

from paper_figures.results import Results
from simulations.claims.ood import differences
from simulations.designs.ood_methods import LEARNED, METHODS
from simulations.designs.ood_rows import EXACT

__all__ = ["KINDS", "LABELS", "REGIMES", "exact", "kind", "methods", "present", "text_differences"]

LABELS = {
    "plain": "plain",
    "neftune": "NEFTune",
    "fixed_gaussian": "fixed Gaussian, tuned",
    "fixed_gaussian_wide": "fixed Gaussian, learned size",
    "token_dropout": "token dropout",
    "semantic_neighbour": "semantic neighbour",
    "eda": "EDA",
    "taia": "TAIA",
    "in_sample_single_draw": "in sample, single draw",
    "in_sample_plug_in": "in sample, plug-in",
    "in_sample_cross_fitted": "in sample, cross-fitted",
    "split_isotropic": "split, isotropic",
    "split_diagonal": "split, diagonal",
    "split_contextual": "split, contextual",
    "split_low_rank": "split, low rank",
    "split_hull": "split, hull",
    "split_flow": "split, flow",
}
KINDS = {
    "baseline": ("#D55E00", "s", "no or fixed perturbation"),
    "in sample": ("#009E73", "^", "learned on the sample of the kernel"),
    "split": ("#0072B2", "o", "learned on a split sample"),
}
"""Colour, marker and label."""
REGIMES = {
    "little_text": "120 kB of text",
    "little_text_more_seeds": "120 kB of text",
    "all_text": "all text",
    "gpt2_little_text": "GPT-2 small, 120 kB of text",
    "gpt2_all_text": "GPT-2 small, all text",
    "scan_length": "SCAN, longer answers",
    "scan_jump": "SCAN, new verb",
    "gpu_scan_length": "SCAN, longer answers",
    "gpu_scan_jump": "SCAN, new verb",
}


def kind(method: str) -> str:
    """Return the key of `KINDS` of a method."""
    if method in LEARNED:
        return "split"
    return "in sample" if method.startswith("in_sample") else "baseline"


def methods(table: pd.DataFrame) -> list[str]:
    """Methods of a table, in the order of the study."""
    found = set(table["method"])
    return [name for name in METHODS if name in found]


def present(run: Results, *, scan: bool) -> list[str]:
    """Regimes of a run that are, or are not, of SCAN."""
    return [name for name in run.table["regime"].unique() if ("scan" in name) == scan]


def text_differences(run: Results) -> pd.DataFrame:
    """Differences to plain training in the regimes of text."""
    return differences(run.table[run.table["regime"].isin(present(run, scan=False))], "plain")


def exact(run: Results, regime: str, budget: str) -> pd.DataFrame:
    """Share of exact matches: columns method, domain, replicate, estimate."""
    rows = run.rows(regime=regime)
    parts = rows["parameter"].str.split("|", expand=True)
    chosen = (parts[0] == budget) & parts[1].str.endswith(EXACT) & (parts[2] == "accuracy")
    domain = parts[1].str.removesuffix(", " + EXACT)
    return rows.assign(domain=domain)[chosen][["method", "domain", "replicate", "estimate"]]
