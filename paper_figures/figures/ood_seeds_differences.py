"""The figure `paper_figures.figures.ood_differences` of the study with more training seeds."""

from paper_figures.figures.ood_differences import draw

__all__ = ["STUDY", "draw"]

STUDY = "ood_seeds"
