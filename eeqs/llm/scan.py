"""SCAN: commands of a small language and the actions they stand for, as sequences whose actions are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eeqs.engine.errors import DataError
from eeqs.llm.corpus import check_unique
from eeqs.llm.evaluation.greedy import greedy
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.packing import Rows
from eeqs.llm.perturbed import IGNORED

__all__ = ["BOS", "EOS", "SEP", "VOCABULARY", "Example", "exact_match", "read_scan", "scan_rows"]

WORDS = (
    *("jump", "look", "run", "walk", "turn", "left", "right"),
    *("opposite", "around", "twice", "thrice", "and", "after"),
)
ACTIONS = ("I_JUMP", "I_LOOK", "I_RUN", "I_WALK", "I_TURN_LEFT", "I_TURN_RIGHT")
VOCABULARY = ("<bos>", "<sep>", "<eos>", *WORDS, *ACTIONS)
"""All tokens; the token of a word is its place."""
BOS, SEP, EOS = range(3)
_TOKENS = {word: token for token, word in enumerate(VOCABULARY)}
_FORM = "such as 'IN: jump twice OUT: I_JUMP I_JUMP'"


@dataclass(frozen=True)
class Example:
    """A command and its actions.

    Parameters
    ----------
    id : str
        Name, unique in a file.
    command, actions : tuple of str
        Words of `VOCABULARY`, at least one each.

    Raises
    ------
    DataError
        There are no words, or one is not of its side of the vocabulary.
    """

    id: str
    command: tuple[str, ...]
    actions: tuple[str, ...]

    def __post_init__(self) -> None:
        for kind, words, known in (("command", self.command, WORDS), ("actions", self.actions, ACTIONS)):
            if not words:
                raise DataError(f'example "{self.id}" has no {kind}; every command stands for one action or more.')
            if foreign := [word for word in words if word not in known]:
                raise DataError(f'example "{self.id}": "{foreign[0]}" is no word of the {kind}: {", ".join(known)}.')

    @property
    def prompt(self) -> Tensor:
        """Tokens that are given, (T,): bos, the command, sep."""
        return torch.tensor([BOS, *(_TOKENS[word] for word in self.command), SEP])

    @property
    def answer(self) -> Tensor:
        """Tokens that are predicted, (T,): the actions, eos."""
        return torch.tensor([*(_TOKENS[word] for word in self.actions), EOS])


def read_scan(path: Path | str) -> list[Example]:
    """Read a file of SCAN, whose lines are ``IN: <command> OUT: <actions>``.

    Parameters
    ----------
    path : Path or str
        Such as ``scan/tasks_train_length.txt`` in the folder of data sets. The splits ``simple``, ``length`` (longer
        actions in the test than in training) and ``addprim_jump`` (jump is trained alone and tested in compositions)
        have a file each for training and test.

    Returns
    -------
    list of Example
        In the order of the file, each named after the file and its line; repeated lines are kept, for in
        ``addprim_jump`` they weight the new word.

    Raises
    ------
    DataError
        The file is missing or has no lines, or a line is malformed; its number is given.

    References
    ----------
    Lake & Baroni (2018) International Conference on Machine Learning 35, 2873-2882.
    """
    path = Path(path)
    if not path.is_file():
        beside = ", ".join(sorted(found.name for found in path.parent.glob("tasks_*.txt")))
        raise DataError(f"there is no file {path}; {path.parent} has {beside or 'no files of SCAN (tasks_*.txt)'}.")
    examples = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        command, found, actions = line.partition(" OUT: ")
        if not (line.startswith("IN: ") and found):
            raise DataError(f'{path}, line {number}: "{line[:60]}" is no pair {_FORM}.')
        try:
            examples.append(Example(f"{path.stem}:{number}", tuple(command.split()[1:]), tuple(actions.split())))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    if not examples:
        raise DataError(f"{path} is empty; its lines are pairs {_FORM}.")
    return examples


def scan_rows(examples: Sequence[Example]) -> Rows:
    """Tokenise examples, one a row, padded at the end to the longest; only actions and eos are predicted.

    `eeqs.llm.packing.batches` goes through them, and `eeqs.llm.evaluation.score_documents` gives the log-likelihood of
    the actions and how many are the most probable token after the true ones before them. ``n_bytes`` are those of the
    actions as text.

    Raises
    ------
    DataError
        There are no examples, or two have one name.
    """
    if not examples:
        raise DataError("there are no examples; pass those of read_scan.")
    names = tuple(example.id for example in examples)
    check_unique(names)
    given, predicted = [example.prompt for example in examples], [example.answer for example in examples]
    tokens = [torch.cat(pair) for pair in zip(given, predicted, strict=True)]
    targets = [torch.cat([torch.full_like(p, IGNORED), a]) for p, a in zip(given, predicted, strict=True)]
    real = pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True)
    document = (torch.arange(1, len(examples) + 1)[:, None] * real) - 1
    n_bytes = torch.tensor([len(" ".join(example.actions)) for example in examples])
    inputs, labels = (
        pad_sequence(part, batch_first=True, padding_value=fill) for part, fill in ((tokens, 0), (targets, IGNORED))
    )
    return Rows(inputs, labels, real - 1, real, document, names, n_bytes)


def exact_match(
    model: LanguageModel,
    examples: Sequence[Example],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    step: int = 0,
) -> Tensor:
    """Whether greedy decoding from a command gives exactly its actions: a bool a command, (N,), whose mean is accuracy.

    Parameters
    ----------
    model : LanguageModel
        Of `VOCABULARY`.
    examples : sequence of Example
    device : torch.device or str
        Where the model is.
    batch_size, step
        As in `eeqs.llm.evaluation.greedy.greedy`; decoding ends one token past the longest answer.

    Raises
    ------
    ValueError
        The model has another vocabulary.
    """
    if model.vocab_size != len(VOCABULARY):
        raise ValueError(f"the model has {model.vocab_size} tokens; build it with the {len(VOCABULARY)} of VOCABULARY.")
    prompts = [example.prompt.to(device) for example in examples]
    longest = max(len(example.answer) for example in examples)
    found = greedy(model, prompts, stop=EOS, longest=longest, batch_size=batch_size, step=step)
    pairs = zip(found, examples, strict=True)
    return torch.tensor([torch.equal(actions.cpu(), example.answer[:-1]) for actions, example in pairs])
