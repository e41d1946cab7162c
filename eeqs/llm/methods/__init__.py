"""Ways to train a language model and to predict with it, one file each."""

from eeqs.llm.methods.attention import is_attention, taia_adapter, taia_state
from eeqs.llm.methods.eda import eda, wordnet_synonyms
from eeqs.llm.methods.fixed_gaussian import embedding_scale, fixed_gaussian
from eeqs.llm.methods.learned import in_sample, split_sample
from eeqs.llm.methods.method import Equation, Method
from eeqs.llm.methods.neftune import neftune
from eeqs.llm.methods.perturbations import Build, contextual, diagonal, flow, hull, isotropic, low_rank
from eeqs.llm.methods.plain import plain
from eeqs.llm.methods.semantic_neighbour import semantic_neighbour
from eeqs.llm.methods.taia import taia
from eeqs.llm.methods.token_dropout import token_dropout

__all__ = [
    "Build",
    "Equation",
    "Method",
    "contextual",
    "diagonal",
    "eda",
    "embedding_scale",
    "fixed_gaussian",
    "flow",
    "hull",
    "in_sample",
    "is_attention",
    "isotropic",
    "low_rank",
    "neftune",
    "plain",
    "semantic_neighbour",
    "split_sample",
    "taia",
    "taia_adapter",
    "taia_state",
    "token_dropout",
    "wordnet_synonyms",
]
