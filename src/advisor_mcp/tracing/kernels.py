"""What a kernel's name says: its class, and whether it communicates, computes in fp32 or has unaligned operands."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, TypeAlias

Class: TypeAlias = Literal[
    "communication", "attention", "convolution", "gemm", "softmax", "normalisation", "optimizer", "layout", "embedding", "reduction",
    "elementwise", "copy", "other",
]  # fmt: skip

# NCCL and RCCL, NVSHMEM and DeepEP, and the one-shot kernels of vLLM, SGLang, TensorRT-LLM and torch's symmetric memory
_COMMUNICATION = re.compile(
    r"^(?:void )?(?:\w+::)*(?:nccl|rccl|ncclDevKernel|ncclKernel|mscclKernel|msccl)"
    r"|multimem_(?:all|reduce|one_shot)|cross_device_reduce|(?:one|two)_?shot_?all_?reduce|all_?reduce_(?:one|two)_?shot"
    r"|custom_all_?reduce|quick_?reduce|allreduce_(?:kernel|fusion)|all_?reduce_kernel|all_?gather_kernel|reduce_?scatter_kernel"
    r"|_all_?reduce_|all_?to_?all|nvshmem|deep_ep::|\bintranode::|\binternode(?:_ll)?::|lamport|push_?allreduce",
    re.IGNORECASE,
)

# the first row that matches names the class; attention before products, products before what they are fused with
_CLASSES: tuple[tuple[Class, re.Pattern[str]], ...] = (
    (
        "attention",
        re.compile(r"flash|fmha|attention|attn|\bmha\b|paged|FlashAttn|mla_|_mla|splitkv|sdpa", re.IGNORECASE),
    ),
    (
        "convolution",
        re.compile(
            r"conv(?!ert)|dgrad|wgrad|fprop|winograd|scudnn|hcudnn|h884cudnn|s1688cudnn|implicit_gemm|igemm|miopen|Im2[cC]ol|im2d2col",
        ),
    ),
    (
        "gemm",
        re.compile(
            r"gemm|gemv|cutlass|cublas|nvjet|^Cijk_|wgmma|matmul|_mm_|\bmm\b|tensorop|xmma|splitKreduce|dot_kernel|ampere_s\d+|moe_.*kernel|fused_moe|grouped_mm",
            re.IGNORECASE,
        ),
    ),
    ("softmax", re.compile(r"softmax", re.IGNORECASE)),
    ("normalisation", re.compile(r"norm|\bbn_|::bn_|_bn_", re.IGNORECASE)),
    ("optimizer", re.compile(r"multi_tensor_apply|adam|adagrad|\blamb\b|\bsgd|fused_?optim", re.IGNORECASE)),
    (
        "layout",
        re.compile(
            r"nchwToNhwc|nhwcToNchw|nchw2nhwc|nhwc2nchw|tensorTransform|transpose|permute|nchwToFoldedNhwc|foldedNhwcToNchw",
            re.IGNORECASE,
        ),
    ),
    ("embedding", re.compile(r"embedding|index|gather|scatter|vectorized_gather", re.IGNORECASE)),
    (
        "reduction",
        re.compile(r"reduce|reduction|cub::|scan|sort|topk|argmax|triton_red|triton_per|\bsum\b", re.IGNORECASE),
    ),
    ("copy", re.compile(r"direct_copy_kernel|CatArrayBatchedCopy|copy_kernel|\bcopy\b", re.IGNORECASE)),
    (
        "elementwise",
        re.compile(
            r"elementwise|triton_poi|pointwise|activation|gelu|silu|relu|fill|dropout|distribution|rotary|Tensor_?Op",
            re.IGNORECASE,
        ),
    ),
)
# what inductor fused is named by the kind of its loop, then by every operation in it
_INDUCTOR = re.compile(r"^triton_(poi|red|per|tem|for|mm)_")
_INDUCTOR_CLASSES: dict[str, Class] = {
    "poi": "elementwise", "for": "elementwise", "red": "reduction", "per": "reduction", "tem": "gemm", "mm": "gemm",
}  # fmt: skip
# torch's own elementwise kernels are named by their functor as well, which may hold any of the words above
_EAGER_ELEMENTWISE = re.compile(r"^(?:void )?at::native::(?:\(anonymous namespace\)::)?(?:\w*_)?elementwise_kernel")
_ELEMENTWISE_COPY = re.compile(r"direct_copy_kernel|CatArrayBatchedCopy")

# cuBLAS' and cuDNN's own words for products on the plain fp32 pipe; cutlass spells out operand and accumulator types
_FP32 = re.compile(
    r"sgemm|ffma|scudnn|f32f32_f32f32_f32|simt_s|gemmSN|_simt_|gemv\w*<\w*, ?\w*, ?\w*, ?float, ?float"
    r"|(?:dgrad|wgrad|conv|fprop|winograd|explicit_convolve)\w*<float,|^Cijk_[A-Za-z]+_[A-Za-z]+_SB?_|(?:igemm|gemm|conv)\w*_fp32",
)
_NOT_FP32 = re.compile(r"tensorop|tf32|bf16|s1688|s16816|h884|hmma|fp16|half")
_TENSOR_CORES = re.compile(
    r"tensorop|s1688|s16816|s884|h884|h1688|h16816|i8816|i16832|hmma|imma|wgmma|nvjet|tf32|bf16|fp16|_e4m3|_e5m2|fp8|fp4|mxfp4|nvfp4|flash|fmha",
    re.IGNORECASE,
)
_ALIGNMENT = re.compile(r"_align([12])\b|_align([12])>")


def is_communication(name: str) -> bool:
    """Whether a kernel moves data between GPUs."""
    return bool(_COMMUNICATION.search(name))


@lru_cache(maxsize=65_536)
def kernel_class(name: str) -> Class:
    """The class of a kernel by its name."""
    if is_communication(name):
        return "communication"
    if (compiled := _INDUCTOR.match(name)) is not None:
        return _INDUCTOR_CLASSES[compiled[1]]
    if _EAGER_ELEMENTWISE.match(name):
        return "copy" if _ELEMENTWISE_COPY.search(name) else "elementwise"
    return next((found for found, pattern in _CLASSES if pattern.search(name)), "other")


def is_fp32_product(name: str) -> bool:
    """Whether a product or convolution runs on the fp32 units, not on tensor cores."""
    return bool(_FP32.search(name)) and not _NOT_FP32.search(name)


def uses_tensor_cores(name: str) -> bool:
    """Whether the name is one of a kernel on tensor cores."""
    return bool(_TENSOR_CORES.search(name))


def is_unaligned(name: str) -> bool:
    """Whether a cutlass kernel was chosen for operands that are aligned to one or two elements only."""
    return bool(_ALIGNMENT.search(name))


def short(name: str, width: int = 90) -> str:
    """A kernel's name as people know it: without return type, template and argument lists, cut at `width`."""
    text = re.sub(r"^(?:void|auto) ", "", name).replace("(anonymous namespace)::", "").replace("<unnamed>::", "")
    functor = (
        re.search(r"(\w*Functor\w*|\w+_kernel_cuda|\w+Ops?\b)", text[20:])
        if "elementwise" in text or "reduce" in text
        else None
    )
    head = re.split(r"[<(]", text, maxsplit=1)[0] or text
    if "cutlass" in head.lower() and "<" in text:
        head = f"{head}<{text.split('<', 1)[1].split('>')[0].split('(')[0]}>"
    elif functor and functor[1] not in head:
        head = f"{head} ({functor[1]})"
    return head if len(head) <= width else head[: width - 1] + "…"
