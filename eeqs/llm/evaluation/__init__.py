"""Scores of language models on documents, with standard errors clustered by document."""

from eeqs.llm.evaluation.document_scores import DocumentScores, score_documents

__all__ = ["DocumentScores", "score_documents"]
