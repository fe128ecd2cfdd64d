"""The OpenAPI document as a page for people: plain HTML, nothing loaded from elsewhere."""

import json
from html import escape
from typing import Any

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font-family:ui-monospace,monospace}pre{background:#8881;padding:.75rem;overflow-x:auto}
body{overflow-wrap:anywhere}
summary{cursor:pointer}h2{margin-top:2rem}.verb{font-weight:700}:root{color-scheme:light dark}"""


def page(document: dict[str, Any]) -> bytes:
    """UTF-8 HTML: each operation with its parameters, and the schemas of what goes in and out."""
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [_schema(name, schema) for name, schema in document["components"]["schemas"].items()]
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>',
            f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>{STYLE}</style>',
            f"<h1>{escape(info['title'])}</h1><p>{escape(info['description'])}",
            'For programs: <a href="openapi.json">openapi.json</a>.</p>',
            *operations,
            "<h2>Schemas</h2>",
            *schemas,
        ]
    ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f'<h2><span class="verb">{method.upper()}</span> <code>{escape(path)}</code></h2>']
    lines.append(f"<p>{escape(operation['summary'])}</p><ul>")
    for parameter in operation.get("parameters", ()):
        said = escape(_said(parameter["schema"]))
        lines.append(f"<li><code>{escape(parameter['name'])}</code> in the {parameter['in']}. {said}</li>")
    if "requestBody" in operation:
        lines.append(f"<li>takes {_link(operation['requestBody']['content']['application/json']['schema'])}</li>")
    for status, response in operation["responses"].items():
        schema = response["content"].get("application/json", {}).get("schema")
        lines.append(f"<li>{status}: {escape(response['description'])} {_link(schema) if schema else ''}</li>")
    return "\n".join([*lines, "</ul>"])


def _said(schema: dict[str, Any]) -> str:
    """What a parameter is for, which values it takes, and which one when it is absent."""
    told = [schema.get("description", "")]
    if "enum" in schema:
        told.append(f"One of {', '.join(schema['enum'])}.")
    elif "minimum" in schema:
        told.append(f"A number from {schema['minimum']} on.")
    if schema.get("default"):
        told.append(f"Default: {schema['default']}.")
    return " ".join(told)


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>'


def _link(schema: dict[str, Any]) -> str:
    name = escape(schema["$ref"].rsplit("/", 1)[-1])
    return f'<a href="#{name}"><code>{name}</code></a>'
