"""Traces for the page's tests: two ranks with something of everything, and names that would do harm if they were let."""

from __future__ import annotations

from pathlib import Path

from tests.tracing.made import Made

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
LOADING = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"

SCRIPT = "<script>window.owned = 1</script>"
IMAGE = '"><img src=x onerror=window.owned=2>'
CLOSING = "</script></svg></title><script>window.owned = 3</script>"
FILE = "<img src=x onerror=window.owned=4>.json"
SECRETS = {
    "host_name": "node17.secret.example",
    "trace_name": "/home/alice/secret/trace.json",
    "user": "alice",
    "job": "job-4711",
}


def training(rank: int = 0, late: float = 0) -> Made:
    """Three steps of 1.6 milliseconds: a wait for data, a copy, products, a collective on a stream of its own, an .item()."""
    made = Made()
    made.head |= {"distributedInfo": {"rank": rank, "world_size": 2, "backend": "nccl"}, **SECRETS}
    for start in (0, 1600, 3200):
        made.range(LOADING, start + 1, 700 + late)
        at = start + 710 + late
        made.operator("aten::to", at, 20).copy(at + 10, 60, launch=at + 2, name="Memcpy HtoD (Pageable -> Device)")
        for place in range(5):
            made.operator("aten::linear", at + 30 + 10 * place, 8)
            made.kernel(f"{GEMM}_{place}", at + 75 + 60 * place, 55, launch=at + 32 + 10 * place, grid=[264, 1, 1])
        made.kernel(NCCL, at + 375, 120, launch=at + 90, stream=20)
        made.kernel("void at::native::vectorized_elementwise_kernel<4>(int)", at + 500, 40, launch=at + 100)
        made.call("cudaStreamSynchronize", at + 110, 440)
    return made.steps(0, 1600, 3200, 4800)


def hostile() -> Made:
    """The same, with markup in the names of kernels, operators, ranges and steps."""
    made = training()
    made.kernel(SCRIPT, 4750, 30, launch=4700).kernel(IMAGE, 4790, 300, launch=4705)
    made.operator(CLOSING, 4690, 40).range(IMAGE, 4680, 90).range(f"ProfilerStep#3{CLOSING}", 4800, 2000)
    made.event("python_function", f"/home/alice/secret/train.py(7): {SCRIPT}", 4680, 400)
    return made.kernel("last \ud800 \u202e name", 6200, 600, launch=6190)


def written(folder: Path) -> list[str]:
    """Two ranks as files."""
    return [str(training(rank, late).write(folder / f"rank{rank}.json")) for rank, late in ((0, 0), (1, 40))]
