"""What a model, a score and a design of draws identify, and how efficiently."""

from eeqs.marginal.identifiability.analysis import identifiability
from eeqs.marginal.identifiability.recommend import Recommendation
from eeqs.marginal.identifiability.report import Identifiability

__all__ = ["Identifiability", "Recommendation", "identifiability"]
