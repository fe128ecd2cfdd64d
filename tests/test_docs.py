"""The documents say what is so: references lead somewhere, the configuration reference is current."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = [
    p for folder in ("pipeline", "towers", "ssl_tasks", "serving", "beam_jobs") for p in (ROOT / folder).rglob("*.py")
]


def test_the_configuration_reference_is_current():
    """Cure: make docs"""
    script = ROOT / "scripts" / "config_reference.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_documents_exist(document):
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:pipeline|towers|ssl_tasks|serving|beam_jobs|scripts|configs|tests|docs)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_decisions_named_in_the_code_exist():
    files = [*SOURCES, ROOT / "setup.py", *(ROOT / "scripts").iterdir()]
    named = {
        name for p in files if p.is_file() for name in re.findall(r"docs/[\w./-]+\.md", p.read_text(encoding="utf-8"))
    }
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_command_is_documented():
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    (listed,) = re.finditer(r"`twotower ([\w |]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    for command in cli.app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        assert f"| `{name}" in text, name
        assert name in listed[1].split(" | "), name
