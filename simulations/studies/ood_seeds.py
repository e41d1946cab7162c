"""The study ``ood`` once more on little text: fewer methods, and training seeds that no choice was made on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simulations.designs.ood_bases import STORIES
from simulations.designs.ood_methods import REPEATED_METHODS
from simulations.designs.ood_text_regime import TextRegime
from simulations.designs.ood_training import Size
from simulations.studies.ood import STUDY as OOD
from simulations.studies.ood import OODStudy
from simulations.study import Preset

__all__ = ["STUDY"]

_SEEDS = 8


def _sizes() -> Mapping[Preset, tuple[Size, ...]]:
    """Seeds come from the name of the regime, so they are not those of ``ood``."""
    regime = TextRegime("little_text_more_seeds", STORIES, 120_000)
    little = OOD.sizes[Preset.CPU][0]
    return {Preset.CPU: (replace(little, regime=regime, methods=REPEATED_METHODS, seeds=_SEEDS),)}


STUDY = OODStudy(
    name="ood_seeds",
    summary="learned and fixed noise out of domain, with more training seeds than ood",
    sizes=_sizes(),
)
