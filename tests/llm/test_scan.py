"""SCAN files, their rows, and exact match: by hand, and against a machine that knows the grammar."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from eeqs.engine.errors import DataError
from eeqs.llm import PerturbedLM, ToyTransformer
from eeqs.llm.evaluation import score_documents
from eeqs.llm.evaluation.greedy import greedy
from eeqs.llm.packing import batches
from eeqs.llm.perturbed import IGNORED
from eeqs.llm.scan import BOS, EOS, SEP, VOCABULARY, Example, exact_match, read_scan, scan_rows
from eeqs.marginal import Gaussian, Identity, single_draw

LINES = (
    "IN: jump OUT: I_JUMP",
    "IN: turn left twice OUT: I_TURN_LEFT I_TURN_LEFT",
    "IN: run OUT: I_RUN",
    "IN: walk right thrice OUT: I_TURN_RIGHT I_WALK I_TURN_RIGHT I_WALK I_TURN_RIGHT I_WALK",
    "IN: jump OUT: I_JUMP",
)
V = len(VOCABULARY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tasks_train_simple.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.fixture
def examples(path: Path) -> list[Example]:
    return read_scan(path)


def _toy(perturbation: torch.nn.Module | None = None, **options: object) -> PerturbedLM:
    toy = ToyTransformer(V, 8, context=32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return PerturbedLM(toy, perturbation or Identity(8), **{"score": single_draw, "draws": 1, **options})


class Oracle:
    """Knows the answers by heart: all its mass is on the next token of the example a row begins as."""

    vocab_size = V

    def __init__(self, examples: list[Example], wrong: dict[int, int] | None = None) -> None:
        self.texts = [torch.cat([example.prompt, example.answer]).tolist() for example in examples]
        for place, position in (wrong or {}).items():
            self.texts[place][position] = VOCABULARY.index("I_LOOK")

    def log_probabilities(self, input_ids: Tensor, **_: object) -> Tensor:
        law = torch.full((*input_ids.shape, V), -20.0)
        for row, tokens in enumerate(input_ids.tolist()):
            for place in range(len(tokens)):
                ahead = [text for text in self.texts if text[: place + 1] == tokens[: place + 1]]
                if ahead and len(ahead[0]) > place + 1:
                    law[row, place, ahead[0][place + 1]] = 0.0
        return law


def test_lines_are_read(examples: list[Example]) -> None:
    assert [" ".join(e.command) for e in examples] == ["jump", "turn left twice", "run", "walk right thrice", "jump"]
    assert examples[1].actions == ("I_TURN_LEFT", "I_TURN_LEFT")
    assert [e.id for e in examples] == [f"tasks_train_simple:{n}" for n in range(1, 6)]
    assert len(set(VOCABULARY)) == V == 3 + 13 + 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("IN: jump", r'line 2: "IN: jump" is no pair'),
        ("jump OUT: I_JUMP", "line 2: .* is no pair"),
        ("", "line 2: .* is no pair"),
        ("IN: fly OUT: I_JUMP", 'line 2: .*"fly" is no word of the command'),
        ("IN: jump OUT: JUMP", 'line 2: .*"JUMP" is no word of the actions'),
        ("IN: jump OUT: ", "line 2: .* has no actions"),
        ("IN: I_JUMP OUT: I_JUMP", '"I_JUMP" is no word of the command'),
    ],
)
def test_malformed_lines_are_named(path: Path, line: str, message: str) -> None:
    path.write_text(f"{LINES[0]}\n{line}\n{LINES[1]}\n")
    with pytest.raises(DataError, match=message):
        read_scan(path)


def test_missing_and_empty_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*tasks_test_simple\.txt; .* has tasks_train_simple\.txt"):
        read_scan(tmp_path / "tasks_test_simple.txt")
    with pytest.raises(DataError, match="nowhere has no files of SCAN"):
        read_scan(tmp_path / "nowhere" / "tasks_train_simple.txt")
    path.write_text("")
    with pytest.raises(DataError, match="is empty"):
        read_scan(path)


def test_rows_hold_the_sequence_and_predict_the_actions_only(examples: list[Example]) -> None:
    rows = scan_rows(examples)
    assert rows.input_ids.shape == (5, 5 + 7)
    for row, example in enumerate(examples):
        words = ["<bos>", *example.command, "<sep>", *example.actions, "<eos>"]
        real = rows.attention_mask[row].bool()
        assert [VOCABULARY[token] for token in rows.input_ids[row][real].tolist()] == words
        assert real.tolist() == [True] * len(words) + [False] * (12 - len(words))
        predicted = [VOCABULARY[token] for token in rows.labels[row].tolist() if token != IGNORED]
        assert predicted == [*example.actions, "<eos>"]
        assert (rows.labels[row][: len(example.command) + 2] == IGNORED).all()
        assert torch.equal(rows.segment_ids[row], torch.where(real, 0, -1))
        assert torch.equal(rows.document[row], torch.where(real, row, -1))
    assert rows.n_bytes.tolist() == [len(line.partition(" OUT: ")[2]) for line in LINES]
    assert rows.n_predicted == sum(len(example.actions) + 1 for example in examples)
    with pytest.raises(DataError, match="two documents are called"):
        scan_rows([examples[0], examples[0]])
    with pytest.raises(DataError, match="no examples"):
        scan_rows([])


def test_batches_train_a_model(examples: list[Example]) -> None:
    model = _toy()
    for batch in batches(scan_rows(examples), 2, torch.Generator().manual_seed(0)):
        loss = model.loss(
            batch.input_ids, batch.labels, attention_mask=batch.attention_mask, segment_ids=batch.segment_ids
        )
        loss.backward()
    law = model.eval().log_probabilities(torch.cat([examples[0].prompt, examples[0].answer])[None])[0]
    expected = law[2, VOCABULARY.index("I_JUMP")] + law[3, EOS]
    alone = scan_rows(examples[:1])
    assert model.loss(alone.input_ids, alone.labels, total=1.0).item() == pytest.approx(-expected.item())
    assert examples[0].prompt.tolist() == [BOS, VOCABULARY.index("jump"), SEP]


def test_who_knows_the_answers_matches_all_and_each_planted_error_costs_its_example(examples: list[Example]) -> None:
    assert exact_match(Oracle(examples), examples, batch_size=2).tolist() == [True] * 5
    # Another action for the first or the last one, and an action where the answer ends.
    for place, position in ((2, 3), (1, 6), (1, 7), (3, 11)):
        expected = [i != place for i in range(5)]
        assert exact_match(Oracle(examples, {place: position}), examples).tolist() == expected
    scores = score_documents(Oracle(examples, {1: 7}), scan_rows(examples))
    assert (scores.n_tokens - scores.n_correct).tolist() == [0, 1, 0, 0, 0]


def test_without_noise_a_match_is_an_answer_whose_every_token_is_the_most_probable(examples: list[Example]) -> None:
    model = _toy()
    decoded = greedy(model, [example.prompt for example in examples], stop=EOS, longest=6)
    readable = [
        Example("own", example.command, ("I_JUMP",) if not len(tokens) else tuple(VOCABULARY[t] for t in tokens))
        for example, tokens in zip(examples, decoded, strict=True)
        if all(VOCABULARY[t].startswith("I_") for t in tokens.tolist())
    ]
    for example in [*examples, *readable]:
        scores = score_documents(model, scan_rows([example]))
        assert exact_match(model, [example]).tolist() == (scores.n_correct == scores.n_tokens).tolist()


@pytest.mark.parametrize("size", [1, 2, 64])
def test_decoding_does_not_depend_on_the_batch(examples: list[Example], size: int) -> None:
    model = _toy(Gaussian(8, log_scale=-1.0)).train()
    prompts = [example.prompt for example in examples]
    alone = [greedy(model, [prompt], stop=EOS, longest=5)[0] for prompt in prompts]
    together = greedy(model, prompts, stop=EOS, longest=5, batch_size=size)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert model.training
    for prompt, tokens in zip(prompts, together, strict=True):
        for place in range(len(tokens)):
            law = model.log_probabilities(torch.cat([prompt, tokens[:place]])[None])
            assert tokens[place] == law[0, -1].argmax()


def test_bad_options_are_refused(examples: list[Example]) -> None:
    other = PerturbedLM(ToyTransformer(5, 8, generator=torch.Generator()), Identity(8), single_draw, draws=1)
    with pytest.raises(ValueError, match="the model has 5 tokens"):
        exact_match(other, examples)
    with pytest.raises(ValueError, match="longest is 0"):
        greedy(_toy(), [examples[0].prompt], stop=EOS, longest=0)
    with pytest.raises(ValueError, match="prompt 0 has shape"):
        greedy(_toy(), [torch.empty(0, dtype=torch.long)], stop=EOS, longest=1)
