"""The hub: asked only where the user allowed it, against a stand-in on loopback."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from advisor_mcp import access
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.errors import AdvisorError, CannotAnswer, UsageError
from advisor_mcp.formulas.parameters import parameters

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

CONFIG = json.dumps({
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 1, "vocab_size": 32,
}).encode()  # fmt: skip
HEADER = json.dumps({"a.weight": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 12
FILES = {"/house/model/resolve/main/config.json": CONFIG, "/house/model/resolve/main/model.safetensors": WEIGHTS}


class Hub(BaseHTTPRequestHandler):
    """Just enough of the hub: files with an ETag, one gated and one missing repository."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path in FILES:
            return self.answer(200, FILES[path])
        if path.startswith("/house/gated/"):
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if path.startswith("/house/model/") or path == "/api/models/house/model":
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "ETag": '"e"',
            "X-Repo-Commit": "c" * 40,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    access.allow_hub(True)
    yield
    access.allow_hub(False)
    server.shutdown()
    thread.join()
    server.server_close()


def refused(name: str) -> AdvisorError:
    with pytest.raises(AdvisorError) as caught:
        read_model(name)
    return caught.value


def test_without_permission_nothing_is_fetched_and_the_way_is_named() -> None:
    assert refused("house/model").message.endswith("or the configuration itself, or allow fetching with --allow-hub)")


@pytest.mark.usefixtures("hub")
def test_a_repository_is_read_with_its_configuration() -> None:
    model = read_model("house/model")
    assert parameters(model.architecture).total == 2 * 256 + 8 + 192 + 384 + 16
    assert model.assumptions == ("configuration of house/model as the hub has it now",)


@pytest.mark.usefixtures("hub")
def test_gated_and_missing_repositories_get_a_sentence_each() -> None:
    gated, missing = refused("house/gated"), refused("house/absent")
    assert isinstance(gated, CannotAnswer)
    assert gated.message == "house/gated is gated: accept its terms on the hub and set HF_TOKEN"
    assert isinstance(missing, UsageError)
    assert (
        missing.message
        == "the hub has no public model 'house/absent'; check its spelling, or set HF_TOKEN if it is private"
    )


def test_a_hub_that_is_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", unreachable)
    monkeypatch.setattr(access, "_hub_allowed", True)
    assert refused("house/far").message == "the hub cannot be reached and house/far is not in its cache"
