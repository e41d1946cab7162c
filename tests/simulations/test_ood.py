"""The study of language models out of their domain: on a toy regime, and its judge on fabricated tables."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from eeqs.llm import ToyTransformer
from eeqs.llm.backend import Backend
from eeqs.llm.byte_tokenizer import ByteTokenizer
from eeqs.llm.corpus import Document
from eeqs.llm.evaluation import DocumentScores, score_documents
from eeqs.llm.language_model import LanguageModel
from eeqs.llm.packing import Rows, pack
from eeqs.llm.tokens import tokenise
from eeqs.llm.training import Settings, TrainingText
from simulations.claims.ood import RIVALS, differences, judge
from simulations.claims.ood_draws import judge as judge_draws
from simulations.designs.ood_methods import BASELINES, LEARNED, METHODS, at
from simulations.designs.ood_rows import EXACT, of_scores, scores_of, single_documents
from simulations.designs.ood_training import BUDGETS, Size
from simulations.measures import measures
from simulations.runner import tabulate
from simulations.seeds import replicate_seed
from simulations.studies.ood import STUDY, OODStudy
from simulations.studies.ood_draws import OODDraws
from simulations.studies.ood_seeds import STUDY as SEEDS
from simulations.studies.ood_tuning import STUDY as TUNING
from simulations.studies.ood_tuning import OODTuning
from simulations.study import Preset, check_cells
from simulations.verdicts import COULD_NOT_TELL, FAILS, HOLDS, check_verdicts

DOMAINS = {"toy": ("in", "out")}


def documents(words: Sequence[str], n: int, seed: int) -> list[Document]:
    rng = np.random.default_rng(seed)
    return [Document(f"{seed}:{i}", " ".join(rng.choice(list(words), 6))) for i in range(n)]


def encode(found: Sequence[Document]) -> list:
    return list(tokenise(found, ByteTokenizer(), bos=256))


@dataclass(frozen=True)
class ToyRegime:
    """Letters to train on, digits outside."""

    name: str = "toy"
    domains: tuple[str, ...] = DOMAINS["toy"]

    def backend(self, seed: int) -> Backend:
        return ToyTransformer(257, 8, 1, 2, 16, generator=torch.Generator().manual_seed(seed))

    def text(self, several: bool) -> TrainingText:
        return TrainingText(documents("abcd", 16, 0), encode, 16, several)

    def validation(self) -> Rows:
        return pack(encode(documents("abcd", 4, 1)), 16, several=False)

    def test(self, model: LanguageModel) -> dict[str, DocumentScores]:
        words = {"in": "abcd", "out": "1234"}
        return {d: score_documents(model, pack(encode(documents(w, 4, 2)), 16)) for d, w in words.items()}


SIZE = Size(
    ToyRegime(),
    ("plain", "fixed_gaussian", "split_isotropic"),
    2,
    Settings(batch_rows=2, learning_rate=1e-2, warmup=1, validate_every=4),
    8,
    32,
    2,
)
TOY = OODStudy(sizes={Preset.CPU: (SIZE,)})


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return tabulate(TOY, TOY.cells(Preset.CPU))


@pytest.mark.parametrize("preset", STUDY.presets)
def test_cells_can_share_a_table(preset: Preset) -> None:
    check_cells("ood", STUDY.cells(preset))
    check_cells("ood_tuning", TUNING.cells(preset))


def test_regimes_have_names_of_their_own() -> None:
    names = [size.regime.name for sizes in STUDY.sizes.values() for size in sizes]
    assert len(names) == len(set(names))


def test_more_seeds_repeat_little_text_with_seeds_of_their_own() -> None:
    little, again = STUDY.sizes[Preset.CPU][0], SEEDS.sizes[Preset.CPU][0]
    assert replace(again, regime=little.regime, methods=little.methods, seeds=little.seeds) == little
    assert replace(again.regime, name=little.regime.name) == little.regime
    first, other = STUDY.cells(Preset.CPU)[0], SEEDS.cells(Preset.CPU)[0]
    drawn = {tuple(replicate_seed(1, c.stream, r).generate_state(2)) for c in (first, other) for r in range(3)}
    assert len(drawn) == 6
    check_cells("ood_seeds", SEEDS.cells(Preset.CPU))


def test_every_tuned_method_has_as_many_candidates_and_chose_one() -> None:
    tuned = {name: method for name, method in METHODS.items() if method.candidates}
    assert {len(method.candidates) for method in tuned.values()} == {3}
    for name, method in tuned.items():
        assert method.chosen in method.candidates, name
    assert not any(method.candidates for method in LEARNED.values())
    assert set(RIVALS) <= set(BASELINES)


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_made_with_the_draws_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.designs.ood_methods.wordnet_synonyms", lambda: {"a": ("b",)})
    method = at(name, 3)
    assert method.inference_draws in (1, 3, 16)
    assert method.splits == (1 if name in LEARNED else 0)
    assert METHODS[name].passes == method.passes + (1 if method.splits else 0)


def test_a_run_has_scores_and_course_under_both_budgets(table: pd.DataFrame) -> None:
    found = table.pivot_table("estimate", ["method", "replicate"], "parameter")
    for budget in BUDGETS:
        for name in ("validation", "update", "passes", "noise", "in|bits_per_byte", "out|bits_per_byte"):
            assert np.isfinite(found[f"{budget}|{name}"]).all()
    noise = found["updates|noise"].groupby("method").mean()
    assert noise["plain"] == 0
    assert noise["fixed_gaussian"] == pytest.approx(METHODS["fixed_gaussian"].chosen, rel=0.2)
    assert (found["compute|passes"] == 32).all()
    assert (found["updates|passes"]["split_isotropic"] == 8 * 3 + 8).all()
    assert (found["compute|validation"] <= found["updates|validation"]).all()


def test_draws_at_inference_test_the_models_of_the_study(table: pd.DataFrame) -> None:
    number = SIZE.inference_draws
    study = OODDraws(sizes={Preset.CPU: (replace(SIZE, methods=("split_isotropic",)),)}, draws=(1, number, 32))
    found = tabulate(study, study.cells(Preset.CPU))
    mine = found.set_index(["parameter", "replicate"])["estimate"]
    theirs = table[table["method"] == "split_isotropic"].set_index(["parameter", "replicate"])["estimate"]
    for replicate in range(SIZE.seeds):
        at_updates = theirs["updates|out|bits_per_byte", replicate]
        assert mine[f"{number}|out|bits_per_byte", replicate] == at_updates
        assert mine["1|out|bits_per_byte", replicate] != at_updates
    verdicts = study.verdicts(found, Preset.CPU)
    check_verdicts(verdicts)
    assert len(verdicts) == 2 * 2


@pytest.mark.parametrize(("shift", "expected"), [(-0.1, HOLDS), (0.1, FAILS)])
def test_more_draws_must_not_hurt(shift: float, expected: str) -> None:
    shifted = {"plain": {}, "split_isotropic": {"in": shift, "out": shift}}
    parts = fabricate(shifted)
    few, many = (parts[parts["method"] == name] for name in shifted)
    rows = pd.concat(
        rows.assign(parameter=rows["parameter"].str.replace("updates", number))
        for rows, number in ((few, "1"), (many, "2"))
    )
    verdicts = judge_draws(rows.assign(method="split_isotropic"), (1, 2))
    assert set(verdicts["verdict"]) == {expected}


def test_seeds_differ_and_a_seed_repeats(table: pd.DataFrame) -> None:
    chosen = [cell for cell in TOY.cells(Preset.CPU) if cell.parameters["method"] == "split_isotropic"]
    again = tabulate(TOY, chosen)
    mine = table[table["method"] == "split_isotropic"].reset_index(drop=True)
    pd.testing.assert_series_equal(again["estimate"], mine["estimate"])
    values = mine[mine["parameter"] == "updates|in|bits_per_byte"]["estimate"]
    assert values.nunique() == 2


def test_rows_give_the_scores_back(table: pd.DataFrame) -> None:
    scores = scores_of(table, "updates")
    assert {method: set(found) for method, found in scores.items()} == {key: {"in", "out"} for key in SIZE.methods}
    summary = table.set_index(["method", "parameter", "replicate"])["estimate"]
    for method in SIZE.methods:
        for domain in ("in", "out"):
            for replicate, one in enumerate(scores[method][domain]):
                expected = summary[method, f"updates|{domain}|bits_per_byte", replicate]
                assert one.bits_per_byte == pytest.approx(expected)


def test_measures_leave_out_single_documents(table: pd.DataFrame) -> None:
    kept = TOY.summarised(table)
    assert not single_documents(kept).any()
    assert len(kept) < len(table) / 2
    assert set(measures(kept)["parameter"]) == set(kept["parameter"])


def test_verdicts_of_a_real_run_compare_learned_with_rivals(table: pd.DataFrame) -> None:
    verdicts = TOY.verdicts(table, Preset.CPU)
    check_verdicts(verdicts)
    assert len(verdicts) == len(RIVALS) * len(BUDGETS) * 2


def fabricate(shift: dict[str, dict[str, float]], seeds: int = 3, n: int = 40) -> pd.DataFrame:
    """Bits a byte of 3 everywhere, plus a shift by method and domain and a little of document and seed."""
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.3, n)
    parts = []
    for method in ("plain", "fixed_gaussian", "split_isotropic"):
        for replicate in range(seeds):
            scores = {}
            for domain in ("in", "out"):
                bits = 3 + common + shift.get(method, {}).get(domain, 0.0) + rng.normal(0, 0.01, n)
                bytes_ = np.full(n, 100.0)
                one, nothing = np.ones(n), np.zeros((n, 15))
                sums = (-bits * bytes_ * np.log(2), one * 50, bytes_, one * 20)
                bins = [nothing.copy() for _ in range(3)]
                for values, total in zip(bins, (50, 20, 20), strict=True):
                    values[:, 7] = total
                scores[domain] = DocumentScores(tuple(map(str, range(n))), *sums, *bins)
            rows = [row for budget in BUDGETS for row in of_scores(budget, scores)]
            frame = pd.DataFrame(rows, columns=["parameter", "estimate", "se"])
            parts.append(frame.assign(regime="toy", method=method, replicate=replicate))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("out", "inside", "expected_out", "expected_in"),
    [(-0.1, 0.0, HOLDS, HOLDS), (0.1, 0.0, FAILS, HOLDS), (-0.1, 0.1, HOLDS, FAILS)],
)
def test_the_judge_finds_what_was_planted(out: float, inside: float, expected_out: str, expected_in: str) -> None:
    verdicts = judge(fabricate({"split_isotropic": {"out": out, "in": inside}}), DOMAINS)
    check_verdicts(verdicts)
    for where, expected in (("(outside)", expected_out), ("(inside)", expected_in)):
        found = verdicts[verdicts["quantity"].str.contains(where, regex=False)]
        assert len(found) == len(RIVALS) * len(BUDGETS)
        assert set(found["verdict"]) == {expected}


def test_methods_that_never_get_an_answer_right_are_not_told_apart() -> None:
    table = fabricate({})
    table = table[~table["parameter"].str.contains(r"\|in\|")]
    table["parameter"] = table["parameter"].str.replace("|out|", f"|out, {EXACT}|", regex=False)
    table["estimate"] = table["estimate"].where(~table["parameter"].str.endswith("|correct"), 0.0)
    domains = {"toy": ("in", f"out, {EXACT}")}
    verdicts = judge(table, domains)
    assert set(verdicts["verdict"]) == {COULD_NOT_TELL}
    assert (verdicts["estimate"] == 0).all()
    one_right = table["parameter"].str.endswith("|correct") & (table["method"] == "split_isotropic")
    table["estimate"] = table["estimate"].where(~one_right, 50.0)
    assert set(judge(table, domains)["verdict"]) == {HOLDS}  # all right against none, with no spread either


def test_differences_are_those_planted() -> None:
    found = differences(fabricate({"split_isotropic": {"out": -0.25}}), "plain")
    row = found[(found["method"] == "split_isotropic") & (found["domain"] == "out")].iloc[0]
    assert row["estimate"] == pytest.approx(-0.25, abs=4 * row["se"])
    assert row["low"] < -0.25 < row["high"]


def test_tuning_tells_who_won() -> None:
    tuning = OODTuning(sizes={Preset.CPU: replace(SIZE, methods=())})
    cells = [c for c in tuning.cells(Preset.CPU) if c.parameters["method"] in ("plain", "fixed_gaussian")]
    assert len(cells) == 6
    rows = tabulate(tuning, cells[-3:])
    assert rows["estimate"].nunique() == 3
    rows["estimate"] = [3.0, 2.0, 1.0]
    verdicts = tuning.verdicts(rows, Preset.CPU)
    check_verdicts(verdicts)
    assert verdicts["estimate"].iloc[0] == rows["candidate"].iloc[-1]
