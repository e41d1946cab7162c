"""Latents of sequences: the law they claim, and streams that do not depend on the batch."""

import pytest
import torch
from scipy import stats

from eeqs.llm import row_latents
from eeqs.marginal import Draws, antithetic, iid, sobol
from eeqs.marginal.laws import RADEMACHER, STANDARD_NORMAL, UNIFORM, LatentLaw

IDS = torch.randint(90, (6, 12), generator=torch.Generator().manual_seed(0))
ALL = torch.ones_like(IDS, dtype=torch.bool)


def _draw(
    ids: torch.Tensor = IDS, real: torch.Tensor = ALL, draws: Draws | None = None, law: LatentLaw = STANDARD_NORMAL,
    seed: int = 1, step: int = 0,
) -> torch.Tensor:  # fmt: skip
    return row_latents(ids, real, draws or iid(4), 3, law, seed=seed, step=step)


@pytest.mark.parametrize("draws", [iid(4), antithetic(4), sobol(8)], ids=str)
def test_a_row_has_its_draws_in_any_batch(draws: Draws) -> None:
    whole = _draw(draws=draws)
    assert whole.shape == (len(draws), 6, 12, 3)
    parts = torch.cat([_draw(IDS[:1], ALL[:1], draws), _draw(IDS[1:], ALL[1:], draws)], dim=1)
    assert torch.equal(whole, parts)


def test_padding_changes_nothing_and_has_zeros() -> None:
    padded = torch.cat([IDS, torch.full((6, 5), 7)], dim=1)
    real = torch.cat([ALL, torch.zeros(6, 5, dtype=torch.bool)], dim=1)
    z = _draw(padded, real)
    assert torch.equal(z[:, :, :12], _draw())
    assert not z[:, :, 12:].any()
    left = _draw(torch.cat([torch.full((6, 5), 7), IDS], dim=1), real.flip(1))
    assert torch.equal(left[:, :, 5:], _draw())


def test_empty_rows_are_all_padding() -> None:
    assert not _draw(real=torch.zeros_like(ALL)).any()


def test_steps_seeds_and_texts_have_streams_of_their_own() -> None:
    first = _draw()
    other = IDS.clone()
    other[0, -1] += 1
    for second in (_draw(step=1), _draw(seed=2), _draw(other)[:, :1]):
        assert not torch.isclose(first[:, :1], second[:, :1]).any()
    flat = torch.cat([_draw(step=step).flatten() for step in range(8)])
    assert abs(float(torch.corrcoef(flat.view(2, -1))[0, 1])) < 4 / (flat.numel() / 2) ** 0.5


@pytest.mark.parametrize(
    ("law", "reference"),
    [(STANDARD_NORMAL, stats.norm), (UNIFORM, stats.uniform(-1, 2)), (RADEMACHER, None)],
    ids=lambda x: getattr(x, "name", ""),
)
@pytest.mark.parametrize("draws", [iid(4), antithetic(4), sobol(4)], ids=str)
def test_the_law_is_the_one_asked_for(draws: Draws, law: LatentLaw, reference: object) -> None:
    # One draw a position: draws of a position may depend on each other. A level of 0.001 in nine tests.
    z = torch.cat([_draw(draws=draws, law=law, step=step)[0].flatten() for step in range(20)]).double().numpy()
    if reference is None:
        assert set(z) == {-1.0, 1.0}
        assert stats.binomtest(int((z > 0).sum()), len(z)).pvalue > 1e-3
    else:
        assert stats.kstest(z, reference.cdf).pvalue > 1e-3
