"""Perturbations of the tokens themselves, with a fixed design: the baselines of learnable continuous perturbations.

One file a member; `eeqs.marginal.discrete.protocol.DiscretePerturbation` says what a member provides, and
`eeqs.marginal.discrete.rewrite.Rewrite` turns one random procedure into a member with an exact law.
"""

from eeqs.marginal.discrete.block_shuffle import BlockShuffle
from eeqs.marginal.discrete.choices import Choices
from eeqs.marginal.discrete.eda import EDA
from eeqs.marginal.discrete.keyboard import QWERTY, adjacent_keys
from eeqs.marginal.discrete.local_shuffle import LocalShuffle
from eeqs.marginal.discrete.neighbours import Neighbours, cosine_distance, nearest, squared_distance
from eeqs.marginal.discrete.protocol import DiscretePerturbation
from eeqs.marginal.discrete.random_deletion import RandomDeletion
from eeqs.marginal.discrete.random_insertion import RandomInsertion
from eeqs.marginal.discrete.random_swap import RandomSwap
from eeqs.marginal.discrete.rewrite import Rewrite
from eeqs.marginal.discrete.semantic_neighbour import SemanticNeighbour
from eeqs.marginal.discrete.stop_words import STOP_WORDS
from eeqs.marginal.discrete.synonym_replacement import SynonymReplacement
from eeqs.marginal.discrete.synonyms import read_synonyms
from eeqs.marginal.discrete.typos import Typos

__all__ = [
    "EDA",
    "QWERTY",
    "STOP_WORDS",
    "BlockShuffle",
    "Choices",
    "DiscretePerturbation",
    "LocalShuffle",
    "Neighbours",
    "RandomDeletion",
    "RandomInsertion",
    "RandomSwap",
    "Rewrite",
    "SemanticNeighbour",
    "SynonymReplacement",
    "Typos",
    "adjacent_keys",
    "cosine_distance",
    "nearest",
    "read_synonyms",
    "squared_distance",
]
