"""A server from its start to its end: what it refuses to start with, HTTPS, and how it stops."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving_fixture import ROOT, running_server

from pipeline.config_serve import ServeConfig
from pipeline.errors import ArtifactError, ConfigError
from serving.app import serve
from serving.client import RetrievalClient


def test_certificate_makes_it_https(bundle_path: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names, *files]
    subprocess.run(make, check=True, capture_output=True)
    settings = {"tls_certificate": str(tmp_path / "certificate"), "tls_key": str(tmp_path / "key")}
    with running_server(bundle_path, tmp_path / "log", **settings) as (url, _):
        assert url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(tmp_path / "certificate"))
        with RetrievalClient(url, verify=trusted) as client:
            assert client.health() == {"status": "ok"}


def test_missing_certificate_is_refused(bundle_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`serve\.tls_certificate`: there is no file"):
        serve(bundle_path, ServeConfig(port=0, tls_certificate="/nowhere", tls_key="/nowhere"))


def test_file_that_is_no_certificate_is_refused_with_the_cure(bundle_path: Path, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"cannot use `serve\.tls_certificate` .*pem: .* Cure: PEM files"):
        serve(bundle_path, ServeConfig(port=0, tls_certificate=str(tmp_path / "pem"), tls_key=str(tmp_path / "pem")))


def test_missing_bundle_is_refused_before_anything_listens(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no bundle artefact"):
        serve(tmp_path / "nowhere")


def test_taken_port_is_refused_with_the_cure(bundle_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot serve at 127\.0\.0\.1:{port}: .* another `serve\.port`"):
            serve(bundle_path, ServeConfig(port=port))


def test_host_that_does_not_exist_is_refused_with_the_cure(bundle_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot serve at 300\.1\.1\.1:0: .* or `serve\.host`"):
        serve(bundle_path, ServeConfig(host="300.1.1.1", port=0))


def test_interrupt_stops_the_server_quietly(bundle_path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_server(bundle_path, log, workers=2) as (_, process):
        pass
    assert "Traceback" not in log.read_text()
    assert process.returncode == 0


@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_interrupt_of_a_terminal_while_workers_start_stops_them_quietly(
    bundle_path: Path, tmp_path: Path, seconds: float
) -> None:
    code = "import sys; from serving.app import serve; from pipeline.config_serve import ServeConfig\n"
    command = [sys.executable, "-c", code + "serve(sys.argv[1], ServeConfig(port=0))", str(bundle_path)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stderr=log, cwd=ROOT, start_new_session=True) as process,
    ):
        while "spawn_main" not in commands(process.pid):
            time.sleep(0.01)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert "Interrupt" not in (tmp_path / "log").read_text()


def commands(parent: int) -> str:
    """The command lines of its children."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in children)
