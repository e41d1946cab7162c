"""Scores of language models on documents, with standard errors clustered by document."""

from eeqs.llm.evaluation.calibration import CalibrationError, calibration_error
from eeqs.llm.evaluation.comparison import compare
from eeqs.llm.evaluation.crossed import Crossed, crossed
from eeqs.llm.evaluation.document_scores import DocumentScores, score_documents
from eeqs.llm.evaluation.features import last_state, mean_state, sequence_features
from eeqs.llm.evaluation.generation import Sampling, generate
from eeqs.llm.evaluation.mauve import Mauve, mauve
from eeqs.llm.evaluation.measures import evaluate
from eeqs.llm.evaluation.ratio_measures import (
    RATIO_MEASURES,
    Measure,
    accuracy,
    bits_per_byte,
    calibration_in_the_large,
    perplexity,
)
from eeqs.llm.evaluation.rouge import rouge_1, rouge_1_mean
from eeqs.llm.evaluation.seeds import compare_over_seeds, evaluate_over_seeds

__all__ = [
    "RATIO_MEASURES",
    "CalibrationError",
    "Crossed",
    "DocumentScores",
    "Mauve",
    "Measure",
    "Sampling",
    "accuracy",
    "bits_per_byte",
    "calibration_error",
    "calibration_in_the_large",
    "compare",
    "compare_over_seeds",
    "crossed",
    "evaluate",
    "evaluate_over_seeds",
    "generate",
    "last_state",
    "mauve",
    "mean_state",
    "perplexity",
    "rouge_1",
    "rouge_1_mean",
    "score_documents",
    "sequence_features",
]
