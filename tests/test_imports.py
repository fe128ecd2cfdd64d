"""Imports point one way, and TensorFlow stays out of the parts that must not need it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"pipeline", "towers", "ssl_tasks", "serving", "beam_jobs"}
FOLDERS = {*PACKAGES, "tests", "configs", "docs", "scripts"}

ALLOWED = {
    "beam_jobs": {
        "pipeline.artifacts",
        "pipeline.catalogue",
        "pipeline.config",
        "pipeline.config_file",
        "pipeline.errors",
        "pipeline.progress",
        "pipeline.sequences",
        "pipeline.split",
        "pipeline.storage",
        "pipeline.tables",
        "pipeline.vocabulary",
        "beam_jobs",
    },
    "towers": {
        "pipeline.catalogue",
        "pipeline.config",
        "pipeline.config_loss",
        "pipeline.errors",
        "pipeline.vocabulary",
        "towers",
    },
    # Tasks open the Beam artefacts they declare.
    "ssl_tasks": {
        "pipeline.artifacts",
        "pipeline.config",
        "pipeline.errors",
        "pipeline.storage",
        "towers",
        "ssl_tasks",
    },
    "serving": {
        "pipeline.artifacts",
        "pipeline.config_serve",
        "pipeline.errors",
        "pipeline.manifest",
        "pipeline.storage",
        "pipeline.vocabulary",
        "serving",
    },
    "pipeline": PACKAGES,
}
"""For each package the modules of ours (or whole packages) that it may import."""

TITLE_ENCODER = "beam_jobs.title_encoder"
"""Runs a BERT inside its functions; no other Beam job comes near TensorFlow."""

TENSORFLOW = {"tensorflow", "tensorflow_recommenders", "tf_keras", "keras", "keras_hub"}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
LIGHT = ["pipeline.cli", "pipeline.config", "pipeline.artifacts", "pipeline.tables", "pipeline.vocabulary"]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


MODULES = [path for package in sorted(PACKAGES) for path in modules(package)]


def imports(path: Path, *, only_at_load: bool = False) -> set[str]:
    """Dotted names of all that a file imports; `from a import b` counts as a.b, so that submodules are seen.

    What stands under `if TYPE_CHECKING` is never imported, and does not count.
    """
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it out"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif _never_runs(node) or (only_at_load and isinstance(node, FUNCTIONS)):
            continue
        pending += ast.iter_child_nodes(node)
    return found


def _never_runs(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def within(name: str, allowed: set[str]) -> bool:
    return any(name == a or name.startswith(f"{a}.") for a in allowed)


def test_the_top_level_folders_are_those_of_the_design():
    assert {folder for folder in FOLDERS if (ROOT / folder).is_dir()} == FOLDERS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imports(path) if name.split(".")[0] in PACKAGES | {"tests", "scripts"}}
    allowed = ALLOWED[package] | ({"towers.keras"} if name_of(path) == TITLE_ENCODER else set())
    assert {name for name in ours if not within(name, allowed)} == set()


@pytest.mark.parametrize("path", modules("serving") + modules("beam_jobs"), ids=name_of)
def test_serving_and_beam_jobs_do_not_import_tensorflow(path):
    """Serving never, not even inside a function; a Beam job only in the title encoder, only inside a function."""
    lazily = name_of(path) == TITLE_ENCODER
    forbidden = TENSORFLOW | {"towers.keras"}
    assert {name for name in imports(path, only_at_load=lazily) if within(name, forbidden)} == set()


@pytest.mark.parametrize("path", modules("pipeline") + modules("towers") + modules("ssl_tasks"), ids=name_of)
def test_tensorflow_comes_through_one_door(path):
    """Only towers/keras.py may import TensorFlow itself; TFRS needs tf.keras 2 to be chosen before."""
    if name_of(path) != "towers.keras":
        assert {name for name in imports(path) if within(name, {"tensorflow", "tf_keras", "keras"})} == set()


def run_python(code: str, *arguments: str) -> None:
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_what_loads_without_tensorflow_does_so_in_a_real_process():
    """The static tests do not see what an imported library imports in turn."""
    names = [name_of(path) for path in modules("serving") + modules("beam_jobs")] + LIGHT
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'tensorflow' not in sys.modules, f'{name} imports tensorflow'\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr


def test_the_command_line_answers_without_the_heavy_libraries():
    code = (
        "import sys, pipeline.cli\n"
        "heavy = {'tensorflow', 'apache_beam', 'faiss', 'numpy', 'pandas', 'pyarrow', 'uvicorn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run_python(code)
