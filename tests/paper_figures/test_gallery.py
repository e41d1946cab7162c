"""Every figure is found, belongs to a study that exists, and says so."""

import sys
from pathlib import Path

import pytest

from paper_figures.gallery import discover
from simulations.study import discover as studies


def test_every_study_has_a_figure_and_every_figure_a_study() -> None:
    by_study = {name: set(discover(name)) for name in studies()}
    assert all(by_study.values()), by_study
    assert set.union(*by_study.values()) == set(discover())


def test_names_begin_with_the_study() -> None:
    for study in studies():
        assert all(name.startswith(f"{study}_") for name in discover(study))


def test_a_module_that_draws_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "no_figures"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "empty.py").write_text("STUDY = 'rates'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"no_figures\.empty needs STUDY, a study's name, and draw"):
        discover(package="no_figures")
    sys.modules.pop("no_figures", None)
