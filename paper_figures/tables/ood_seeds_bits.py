"""The table `paper_figures.tables.ood_bits` of the study with more training seeds."""

from paper_figures.tables.ood_bits import make

__all__ = ["STUDY", "make"]

STUDY = "ood_seeds"
