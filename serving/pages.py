"""What the server shows in a browser, and the documents beside it: made once, with an ETag each."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serving.docs_page import page as docs_page

FOLDER = Path(__file__).resolve().parent / "explorer"
TYPES = {".html": b"text/html; charset=utf-8", ".css": b"text/css", ".js": b"text/javascript", ".svg": b"image/svg+xml"}
POLICY = b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " + (
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page runs no script and loads nothing but its own files, whatever a title may hold."""


@dataclass(frozen=True)
class Page:
    """A file that anybody may read. headers: those beside its type; etag: of this content."""

    content_type: bytes
    content: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    etag: bytes

    @classmethod
    def of(cls, content_type: bytes, content: bytes, policy: bytes = b"") -> "Page":
        """A page that browsers keep, and ask about again each time."""
        etag = b'"' + hashlib.sha256(content).hexdigest()[:20].encode() + b'"'
        headers = [(b"etag", etag), (b"cache-control", b"no-cache"), (b"x-content-type-options", b"nosniff")]
        if policy:
            headers += [(b"content-security-policy", policy), (b"referrer-policy", b"no-referrer")]
        return cls(content_type, content, tuple(headers), etag)


def pages(document: dict[str, Any], explorer: bool) -> dict[str, Page]:
    """By path: the OpenAPI document, itself for people, and the explorer page if it is shown."""
    found = {
        "/openapi.json": Page.of(b"application/json", orjson.dumps(document)),
        "/docs": Page.of(TYPES[".html"], docs_page(document)),
    }
    if explorer:
        for file in sorted(FOLDER.iterdir()):
            found[f"/explorer/{file.name}"] = Page.of(TYPES[file.suffix], file.read_bytes(), POLICY)
        found["/"] = found.pop("/explorer/index.html")
    return found
