"""Our parameter counts beside accelerate's and the published totals, on models that are hard to count.

`python -m benchmarks.against_accelerate --data DIR --python PYTHON`: DIR holds configurations (configs/truth.jsonl), PYTHON
has accelerate, transformers and torch. `accelerate estimate-memory` asks the hub for a model's configuration: it is
answered from DIR by a stand-in on loopback, and what it does with it is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import advisor_mcp
from advisor_mcp.errors import AdvisorError
from benchmarks.accuracy.suites import rows

HARD = (
    "meta-llama/Llama-3.2-1B-Instruct", "Qwen/Qwen3-0.6B", "google/gemma-3n-E4B-it", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-120b",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "Qwen/Qwen3-Next-80B-A3B-Instruct", "ai21labs/Jamba-v0.1",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct", "microsoft/Phi-3.5-MoE-instruct",
)  # fmt: skip
ASK = """
import sys
from argparse import Namespace
from accelerate.commands.estimate import gather_data
found = gather_data(Namespace(model_name=sys.argv[1], library_name="transformers", trust_remote_code=False, dtypes=["float32"]))
print("bytes", int(found[0][2]))
"""


def _information(name: str, config: dict[str, Any]) -> dict[str, Any]:
    files = [{"rfilename": "config.json"}]
    return {
        "id": name,
        "modelId": name,
        "library_name": "transformers",
        "config": config,
        "siblings": files,
        "sha": "c" * 40,
    }


@contextmanager
def hub(files: dict[str, Path]) -> Iterator[str]:
    """A stand-in for the hub that knows the configurations of some models."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.split("?")[0].strip("/")
            name = path.removeprefix("api/models/").split("/resolve/")[0].split("/tree/")[0].split("/revision/")[0]
            if name in files and path.startswith("api/models/"):
                config = json.loads(files[name].read_text(encoding="utf-8"))
                return self.answer(200, json.dumps(_information(name, config)).encode())
            if name in files and path.endswith("/config.json"):
                return self.answer(200, files[name].read_bytes())
            return self.answer(404, b"")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for key, value in (("ETag", '"e"'), ("X-Repo-Commit", "c" * 40), ("Content-Length", str(len(body)))):
                self.send_header(key, value)
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def theirs(python: str, name: str, endpoint: str, cache: Path) -> str:
    """Parameters as accelerate has them (fp32 bytes / 4), or why it gives none."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [python, "-c", ASK, name], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("bytes ")]
    if lines:
        return f"{int(lines[0].split()[1]) // 4:,}"
    reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return f"fails: {reason.split(':')[0][:60]}"


def ours(path: Path) -> str:
    """Our count, or our refusal."""
    try:
        return f"{advisor_mcp.call('describe_model', model=str(path)).data()['parameters']['total']:,}"
    except AdvisorError as error:
        return f"refuses: {error.message[:60]}"


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against_accelerate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--python", default=sys.executable, help="an interpreter that has accelerate, transformers and torch"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("/tmp/against-accelerate"), help="where accelerate may keep what it fetches"
    )
    options = parser.parse_args(argv)
    truth: dict[str, dict[str, Any]] = {row["model"]: row for row in rows(options.data / "configs" / "truth.jsonl")}
    files = {name: options.data / "configs" / truth[name.replace("/", "__")]["file"] for name in HARD}
    print("| Model | advisor-mcp | accelerate | published total, and what it counts |\n|---|---|---|---|")
    with hub(files) as endpoint:
        for name in HARD:
            published = truth[name.replace("/", "__")].get("published") or [{}]
            total = f"{published[0]['value']:,}" if "value" in published[0] else "none found"
            note = published[0].get("explanation") or ""
            counted = theirs(options.python, name, endpoint, options.cache)
            print(f"| {name} | {ours(files[name])} | {counted} | {total}{f' ({note})' if note else ''} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
