"""English function words, which synonym replacement and insertion leave alone."""

from __future__ import annotations

__all__ = ["STOP_WORDS"]

# The closed word classes of Quirk, Greenbaum, Leech & Svartvik (1985), A Comprehensive Grammar of the English Language,
# section 2.34. EDA uses the list of NLTK, which covers the same classes less completely.
_CLASSES = {
    "articles and determiners": "a an the this that these those each every either neither some any no all both such",
    "personal pronouns": "i me you he him she her it we us they them one",
    "possessives": "my mine your yours his hers its our ours their theirs",
    "reflexives": "myself yourself himself herself itself ourselves yourselves themselves oneself",
    "wh-words": "who whom whose which what when where why how whoever whatever whichever whenever wherever however",
    "indefinite pronouns": "somebody someone something anybody anyone anything nobody nothing everybody everyone "
    "everything none",
    "auxiliaries": "am is are was were be been being have has had having do does did doing done can could may might "
    "must shall should will would ought",
    "prepositions": "of in to for with on at from by about as into like through after over between out against "
    "during without before under around among above across behind below beneath beside beyond despite down except "
    "inside near off onto outside past since throughout toward towards until up upon via within",
    "conjunctions": "and or but nor so yet if because although though unless while whereas whether than",
    "negation, quantity and adverbs of the closed classes": "not more most less least many much few other another "
    "same own only just too very also again then once here there now",
}

STOP_WORDS: frozenset[str] = frozenset(word for words in _CLASSES.values() for word in words.split())
"""Function words in lower case."""
