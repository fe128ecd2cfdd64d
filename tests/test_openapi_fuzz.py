"""Requests made from the OpenAPI document, good ones and bad ones: no 5xx, and no answer that it does not describe."""

import subprocess
import sys
from pathlib import Path

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]


def test_no_request_of_schemathesis_is_answered_otherwise_than_documented(server_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server_url}/openapi.json"]
    options = ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--max-examples", "20"]
    ran = subprocess.run(
        [*command, *options, "--seed", "1", "--no-color"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert "Test cases:" in ran.stdout
