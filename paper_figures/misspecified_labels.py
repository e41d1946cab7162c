"""Names, colours and markers of the study ``misspecified`` in its figures."""

from __future__ import annotations

__all__ = ["COLOURS", "DESIGNS", "LABELS", "MARKERS"]

DESIGNS = {
    "poisson": "Poisson, overdispersed",
    "logit": "logit, 3 % flipped",
    "least_squares": "line through a parabola",
    "exact": "foreign noise, exact",
    "cross_fitted": "foreign noise, cross-fitted",
    "clustered": "line, clusters of 10",
    "crossed": "line, rows and columns",
}

# Okabe & Ito (2008).
COLOURS = {"model_based": "#D55E00", "sandwich": "#0072B2", "cluster": "#009E73", "two_way": "#CC79A7"}
MARKERS = {"model_based": "s", "sandwich": "o", "cluster": "^", "two_way": "D"}
LABELS = {
    "model_based": "inverse information",
    "sandwich": "sandwich (HC0)",
    "cluster": "cluster sandwich (CR1)",
    "two_way": "two-way cluster sandwich",
}
