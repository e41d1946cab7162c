"""Import layers, by reading the source; and an import with every optional extra missing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What a layer may not import, longest prefix first; the layers below need nothing from those above them.
FORBIDDEN = {
    "eeqs.engine": ("eeqs.marginal", "eeqs.llm", "simulations", "paper_figures"),
    "eeqs.marginal": ("eeqs.llm", "simulations", "paper_figures"),
    "eeqs": ("simulations", "paper_figures"),
    "simulations": ("paper_figures",),
}
EXTRAS = (
    "accelerate", "dask", "distributed", "joblib", "matplotlib", "peft", "pyarrow", "rich", "safetensors",
    "threadpoolctl", "tokenizers", "transformers", "typer",
)  # fmt: skip


def imported(path: Path, module: str) -> set[str]:
    """Modules a file imports, wherever in the file, relative imports resolved against ``module``."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join(base + ([node.module] if node.module else []))
            names |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
    return names


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def violations(root: Path) -> list[str]:
    """Every import under ``root`` that the layers forbid."""
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        layer = next((name for name in FORBIDDEN if _inside(module, name)), None)
        if layer is None:
            continue
        for name in imported(path, module):
            if any(_inside(name, upper) for upper in FORBIDDEN[layer]):
                found.append(f"{module} imports {name}")
            adapter = _inside(name, "transformers") or _inside(name, "peft")
            if adapter and not _inside(module, "eeqs.llm.huggingface"):
                found.append(f"{module} imports {name}")
    return found


def test_layers_of_the_repository():
    packages = [name for name in ("eeqs", "simulations") if (ROOT / name).is_dir()]
    assert "eeqs" in packages
    assert len(list((ROOT / "eeqs" / "engine").rglob("*.py"))) > 10
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "caught"),
    [
        ("eeqs/engine/solve.py", "from eeqs.marginal import Marginal", True),
        ("eeqs/engine/solve.py", "def f():\n    import eeqs.llm.sgd", True),
        ("eeqs/engine/moments/mean.py", "from ...marginal.model import Marginal", True),
        ("eeqs/engine/moments/__init__.py", "from ... import marginal", True),
        ("eeqs/engine/solve.py", "import simulations", True),
        ("eeqs/engine/solve.py", "from eeqs.engine.data import Data\nimport simulationslike", False),
        ("eeqs/marginal/model.py", "from eeqs import llm", True),
        ("eeqs/marginal/model.py", "from eeqs.engine.psi import from_surrogate", False),
        ("eeqs/__init__.py", "import paper_figures.rates", True),
        ("simulations/report.py", "from paper_figures import rates", True),
        ("simulations/report.py", "import eeqs", False),
        ("paper_figures/rates.py", "from simulations.store import read", False),
        ("eeqs/marginal/model.py", "import transformers", True),
        ("simulations/report.py", "from transformers import AutoModel", True),
        ("eeqs/llm/huggingface.py", "import transformers", False),
    ],
)
def test_planted_violations_are_caught(tmp_path, path, source, caught):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert bool(violations(tmp_path)) is caught


LANGUAGE_MODELS = ("accelerate", "peft", "tokenizers", "transformers")
BLOCKED = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name + " is an optional extra")

sys.meta_path.insert(0, Blocker())
"""


def _run(code: str, blocked: tuple[str, ...] = EXTRAS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own interpreter and text
        [sys.executable, "-c", BLOCKED.format(blocked=blocked) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", ["eeqs", "eeqs.marginal", "eeqs.llm", "eeqs.llm.methods", "eeqs.llm.evaluation"])
def test_package_imports_without_any_extra(module):
    estimate = "import eeqs; print(eeqs.estimate(eeqs.moments.mean('y'), {'y': [1.0, 2.0, 4.0]}).summary())"
    done = _run(f"import {module}; {estimate}")
    assert done.returncode == 0, done.stderr
    assert "mean[y]" in done.stdout


@pytest.mark.parametrize("extra", ["pyarrow", "matplotlib.pyplot", "transformers"])
def test_the_blocker_blocks(extra):
    done = _run(f"import {extra}")
    assert done.returncode != 0
    assert "is an optional extra" in done.stderr


def test_studies_are_listed_without_the_libraries_of_language_models():
    done = _run("from simulations.study import discover; print(*discover())", LANGUAGE_MODELS)
    assert done.returncode == 0, done.stderr
    assert "ood" in done.stdout.split()
