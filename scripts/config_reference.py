"""Write docs/configuration.md from pipeline/config.py: every setting, its type, its default and its docstring.

Usage: python scripts/config_reference.py [--check]; --check only compares and exits with 1 when it is out of date.
"""

import ast
import inspect
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from pipeline import config, config_section, config_source

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration

An experiment is one YAML file that holds only what differs from the defaults below. On the command line,
`--set a.b=value` overrides a single setting; the value is YAML too (`--set tower.hidden=[64,32]`). Unknown settings
are refused with the nearest known name. The resolved configuration is saved in the manifest of every artefact.

Relative paths are relative to the directory `twotower` is started in. Stages share the artefacts under `workdir`;
`name` keeps the models, evaluations and bundles of several experiments on the same data apart.

<!-- Written by scripts/config_reference.py from pipeline/config.py; change it there. -->
"""


def main(arguments: list[str]) -> int:
    text = reference()
    if arguments == ["--check"]:
        return int(DOCUMENT.read_text(encoding="utf-8") != text)
    DOCUMENT.write_text(text, encoding="utf-8")
    return 0


def reference() -> str:
    """The whole document."""
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("pipeline.config")]
    sources = [ast.parse(inspect.getsource(module)) for module in modules]
    notes = {node.name: _notes(node) for source in sources for node in source.body if isinstance(node, ast.ClassDef)}
    return "\n".join([HEAD, *_section(config.Config, "", notes)])


def _notes(node: ast.ClassDef) -> dict[str, tuple[str, str]]:
    """Setting -> (type as written, docstring below it)."""
    found: dict[str, tuple[str, str]] = {}
    following = [*node.body[1:], None]
    for statement, after in zip(node.body, following, strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            note = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                note = " ".join(str(after.value.value).split())
            found[statement.target.id] = ast.unparse(statement.annotation), note
    return found


def _section(model: type[config_section.Section], prefix: str, notes: dict[str, Any]) -> list[str]:
    """The table of one section, followed by those of the sections in it."""
    lines, inner = [], []
    if prefix:
        lines += [f"## `{prefix}`", ""]
    lines += [" ".join((model.__doc__ or "").split()), "", "| setting | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        written, note = _note(model, name, notes)
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(field.annotation, type) and issubclass(field.annotation, config_section.Section):
            inner += _section(field.annotation, path, notes)
            continue
        default = "required" if field.is_required() else f"`{_default(field.default)}`"
        lines.append(f"| `{name}` | {_type(written)} | {default} | {_cell(note)} |")
        if get_origin(field.annotation) is dict:
            inner += _section(get_args(field.annotation)[1], f"{path}.SETTING", notes)
        if name == "item_fields" and model is config_source.TableSourceConfig:
            inner += _section(config_source.FieldConfig, f"{path}[]` and `{prefix}.user_fields[]", notes)
    if lines[-1] == "|---|---|---|---|":
        lines = lines[:-3]
    return [*lines, "", *inner]


def _note(model: type, name: str, notes: dict[str, Any]) -> tuple[str, str]:
    """A setting's type and docstring, from the nearest class that declares it."""
    return next(notes[c.__name__][name] for c in model.__mro__ if name in notes.get(c.__name__, {}))


def _type(annotation: str) -> str:
    if annotation.startswith("Literal["):
        options = ast.literal_eval(f"({annotation.removeprefix('Literal[').removesuffix(']')},)")
        return " or ".join(f"`{option}`" for option in options)
    words = {
        "PositiveInt": "int > 0",
        "PositiveFloat": "float > 0",
        "str": "text",
        "bool": "true or false",
        "list[FieldConfig]": "list of fields",
    }
    for word, plain in words.items():
        annotation = annotation.replace(word, plain)
    return _cell(annotation.replace(" | None", " or null"))


def _default(value: Any) -> str:
    plain = {None: "null", True: "true", False: "false"}
    return plain[value] if value is None or isinstance(value, bool) else _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
