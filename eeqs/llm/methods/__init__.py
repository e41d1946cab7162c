"""Ways to train a language model and to predict with it, one file each."""

from eeqs.llm.methods.fixed_gaussian import fixed_gaussian
from eeqs.llm.methods.learned import in_sample, split_sample
from eeqs.llm.methods.method import Equation, Method
from eeqs.llm.methods.plain import plain

__all__ = ["Equation", "Method", "fixed_gaussian", "in_sample", "plain", "split_sample"]
