"""All-reduce over several devices of one machine: a process each, joined through a file, timed by the first."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from advisor_mcp.gpus.benchmarking.backend import Unsupported

LEAST_SAMPLES = 10
WARM_UP = 5  # all-reduces before the first sample: connections are made in the first
PATIENCE_S = 120.0  # for processes to start and to join beyond the time they measure


def all_reduce(ranks: int, size: int, seconds: float, backend: str, device: str) -> list[float]:
    """Seconds of each all-reduce of `size` bytes over `ranks` processes; raises `Unsupported` where they fail or hang."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        arguments = (ranks, size, seconds, backend, device, folder)
        started = torch.multiprocessing.spawn(rank_main, arguments, nprocs=ranks, join=False)
        until = time.monotonic() + seconds + PATIENCE_S
        try:
            while not started.join(timeout=1.0):
                if time.monotonic() > until:
                    raise Unsupported("the processes did not finish in time")
        except (torch.multiprocessing.ProcessExitedException, torch.multiprocessing.ProcessRaisedException) as error:
            raise Unsupported(str(error).strip().split("\n")[-1][:160]) from None
        finally:
            for process in started.processes:
                process.kill()
        return [float(each) for each in json.loads((Path(folder) / "samples.json").read_text(encoding="utf-8"))]


def rank_main(rank: int, ranks: int, size: int, seconds: float, backend: str, device: str, folder: str) -> None:
    """One process: joins the group, warms up, takes as many samples as the first rank says, and leaves."""
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend, init_method=f"file://{folder}/join", rank=rank, world_size=ranks, timeout=timedelta(seconds=PATIENCE_S)
    )
    try:
        values = torch.ones(size // 4, dtype=torch.float32, device=device)
        first = [_once(torch, dist, values) for _ in range(WARM_UP)][-1]
        count = torch.tensor([max(int(seconds / first), LEAST_SAMPLES)], device=device)
        dist.broadcast(count, 0)
        samples = [_once(torch, dist, values) for _ in range(int(count.item()))]
        if rank == 0:
            (Path(folder) / "samples.json").write_text(json.dumps(samples), encoding="utf-8")
    finally:
        dist.destroy_process_group()


def _once(torch: Any, dist: Any, values: Any) -> float:
    """Seconds of one all-reduce that every rank begins together."""
    dist.barrier()
    if values.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    dist.all_reduce(values)
    if values.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
