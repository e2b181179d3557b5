"""What a kernel's name says: its class, and whether it communicates, computes in fp32 or has unaligned operands.

A name is read from the inside out: first the function's own word, then the namespaces around it, and the template arguments only where
the function is a mere entry point (`cutlass::device_kernel<...>`). Argument types say nothing: half of all kernels take a tensor named
after cublas, flash or an index.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, TypeAlias

Class: TypeAlias = Literal[
    "communication", "attention", "convolution", "gemm", "softmax", "normalisation", "optimizer", "layout", "embedding", "reduction",
    "elementwise", "copy", "other",
]  # fmt: skip

# what stands before a function's qualified name, and namespaces without a name (as c++filt, Nsight Systems and gcc spell them)
_BEFORE = re.compile(r"^std::enable_if<.*?>::type |^(?:void|auto) ")
_NAMELESS = re.compile(r"(?:\(anonymous namespace\)|<unnamed>|\{anonymous\})::")
# libraries whose names hold a word that means something else in a function's name
_LIBRARIES = re.compile(r"flashinfer|fbgemm(?:_gpu)?|deep_gemm(?=::)", re.IGNORECASE)
# entry points that only run what their template argument says
_ENTRIES = frozenset(
    {"device_kernel", "Kernel", "Kernel2", "kentry", "kernel", "trampoline_kernel", "_kernel_agent", "static_kernel"}
)

# NCCL, RCCL and MSCCL, NVSHMEM and DeepEP, Transformer Engine's userbuffers, and the collectives that vLLM, SGLang, TensorRT-LLM, aiter
# and torch's symmetric memory bring themselves
_COMMUNICATION = re.compile(
    r"(?:^|::)(?:nccl|rccl|msccl)|(?:^|::)(?:deep_ep|intranode|internode|internode_ll|symmetric_memory|quickreduce)::"
    r"|(?<![A-Za-z])all_?(?:reduce|gather|to_?all)|All_?(?:[Rr]educe|[Gg]ather|[Tt]o_?[Aa]ll)|(?<![A-Za-z])reduce_?scatter|Reduce_?[Ss]catter"
    r"|multimem_|cross_device_|nvshmem|lamport|userbuffers_|moeA2A",
)

# the first row that matches names the class: what is fused with a product or a norm is named after those
_CLASSES: tuple[tuple[Class, re.Pattern[str]], ...] = (
    ("elementwise", re.compile(r"[Rr]otary|(?<![A-Za-z])rope(?![a-z])|Rope(?![a-z])")),
    ("copy", re.compile(r"reshape_and_cache|concat_and_cache|store_?kv|kv_buffer", re.IGNORECASE)),
    (
        "attention",
        re.compile(
            r"flash|fmha|attention|attn|(?<![a-z])mha(?![a-z])|mqa_|paged|mla_|_mla|splitkv|sdpa|sage_|with\w*kv_?cache|mergestates"
            r"|^_(?:fwd|bwd)_kernel$|_fwd_(?:grouped_)?kernel_stage\d|^pa_",
            re.IGNORECASE,
        ),
    ),
    (
        "convolution",
        re.compile(
            r"conv(?!er[st])|dgrad|wgrad|fprop|winograd|[sh]cudnn|\d{3}cudnn|cask_cudnn|implicit_gemm|bwd_weight|^igemm_(?:fwd|bwd|wrw)_|im2(?:d2)?col|fft2d_[cr]2",
            re.IGNORECASE,
        ),
    ),
    ("reduction", re.compile(r"top_?k|routing|sort|moe_align|finalize_?(?:matmul|kernel)", re.IGNORECASE)),
    (
        "gemm",
        re.compile(
            r"gemm|gemv|gemx|cublas|nvjet|^(?:Custom_)?Cijk_|matmul|(?<![a-z])b?mm(?![a-z])|xmma|splitKreduce|dot_kernel|epilogue::impl"
            r"|fused_moe|fmoe|flatmm|grouped_mm|marlin|machete|wvSplitK",
            re.IGNORECASE,
        ),
    ),
    ("reduction", re.compile(r"cross_?entropy|nll_?loss|criterion", re.IGNORECASE)),
    ("softmax", re.compile(r"softmax", re.IGNORECASE)),
    (
        "normalisation",
        re.compile(
            r"norm(?!al)|\bbn_(?:fw|bw)|GammaBeta|RowwiseMoments|FusedParamsCUDA|InternalGradients", re.IGNORECASE
        ),
    ),
    ("embedding", re.compile(r"embedding|(?<!with_)ind(?:ex|ic)|gather|scatter|permute", re.IGNORECASE)),
    ("optimizer", re.compile(r"multi_tensor_apply|adam|adagrad|\blamb\b|\bsgd|optimizer|fused_?optim", re.IGNORECASE)),
    (
        "layout",
        re.compile(
            r"(?:nchw|nhwc)_?(?:2|to)_?(?:folded)?(?:nchw|nhwc)|foldedNhwcToNchw|tensorTransform|(?<!cast_)transpose",
            re.IGNORECASE,
        ),
    ),
    (
        "reduction",
        re.compile(
            r"reduce|reduction|cub::|scan|arg_?m(?:ax|in)|histogram|sampling|(?<![a-z])sum(?![a-z])", re.IGNORECASE
        ),
    ),
    ("copy", re.compile(r"cop(?:y|ies)|CatArray", re.IGNORECASE)),
    (
        "elementwise",
        re.compile(
            r"elementwise|pointwise|activation|act_and_mul|[gs]elu|silu|relu|swi_?glu|geglu|(?<!pre)fill|dropout|distribution|quant|cast"
            r"|scale|clamp|TensorOp|OpTensor",
            re.IGNORECASE,
        ),
    ),
)
# what inductor fused is named by the kind of its loop, then by every operation in it (torch/_inductor/wrapper_benchmark.py)
_INDUCTOR = re.compile(r"^triton_(poi|for|red|per|spl|tem)_")
_INDUCTOR_CLASSES: dict[str, Class] = {
    "poi": "elementwise", "for": "elementwise", "red": "reduction", "per": "reduction", "spl": "reduction",
}  # fmt: skip
# the functor of torch's own elementwise kernels stands in their template arguments
_COPY_FUNCTOR = re.compile(r"direct_copy_kernel|\b\w+_copy_kernel_cuda|copy_device_to_device")

# cuBLAS' and cuDNN's own words for products on the plain fp32 pipe; cutlass spells out operand and accumulator types. Products with a
# vector are left out: they run at the memory's speed whatever computes them.
_FP32 = re.compile(
    r"sgemm|ffma|scudnn|f32f32_f32f32_f32|simt_s|gemmSN"
    r"|(?:dgrad|wgrad|conv|fprop|winograd|explicit_convolve)\w{0,99}<float,|^Cijk_[A-Za-z]+_[A-Za-z]+_S(?:B|_B)?_|(?:igemm|gemm|conv)\w{0,99}_fp32",
)
# what runs on tensor cores or on AMD's matrix cores (Tensile names their instruction, MI16x16x1; MIOpen's kernels for them are "gtcx"),
# and depthwise convolutions, which have no product for them
_NOT_FP32 = re.compile(r"tensorop|tf32|bf16|bfloat16|s1688|s16816|h884|hmma|fp16|half|_MI\d+x\d+|gtcx|depthwise")
# one element is all that a SIMT kernel ever loads, and an fp64 operand fills 8 bytes by itself
_UNALIGNED = re.compile(r"^(?!.*(?:simt|d884)).*_align[12](?!\d)")


def _own_name(name: str) -> tuple[str, str]:
    """The function's qualified name and what follows it: template arguments and parameters."""
    if name.startswith("_Z"):
        return _unmangled(name)
    text = _NAMELESS.sub("", _BEFORE.sub("", name))
    end = re.search(r"[<(]|$", text)
    assert end is not None
    return _LIBRARIES.sub("", text[: end.start()]), text[end.start() :]


def _unmangled(name: str) -> tuple[str, str]:
    """The nested name of a mangled one (_ZN, then each word after its length), and its rest as it is."""
    position = 3 if name.startswith("_ZN") else 2
    words = []
    while (length := re.compile(r"\d+").match(name, position)) is not None:
        position = length.end() + int(length[0])
        words.append(name[length.end() : position])
    return _LIBRARIES.sub("", "::".join(words)), name[position:]


def _class_of(text: str) -> Class | None:
    return next((found for found, pattern in _CLASSES if pattern.search(text)), None)


def is_communication(name: str) -> bool:
    """Whether a kernel moves data between GPUs."""
    return _INDUCTOR.match(name) is None and bool(_COMMUNICATION.search(_own_name(name)[0]))


@lru_cache(maxsize=65_536)
def kernel_class(name: str) -> Class:
    """The class of a kernel by its name."""
    if is_communication(name):
        return "communication"
    if (compiled := _INDUCTOR.match(name)) is not None:
        return _INDUCTOR_CLASSES.get(compiled[1]) or _template_class(name)
    path, rest = _own_name(name)
    last = path.rpartition("::")[2]
    found = _class_of(rest if last in _ENTRIES else last) or _class_of(path)
    if found == "elementwise" and "elementwise" in last and _COPY_FUNCTOR.search(rest):
        return "copy"
    return found or "other"


def _template_class(name: str) -> Class:
    """The class of inductor's templates: products, convolutions and flex attention."""
    if "flex_" in name:
        return "attention"
    return "convolution" if "convolution" in name and "mm" not in name else "gemm"


def is_fp32_product(name: str) -> bool:
    """Whether a product or convolution runs on the fp32 units, not on tensor cores or AMD's matrix cores."""
    return bool(_FP32.search(name)) and not _NOT_FP32.search(name)


def is_unaligned(name: str) -> bool:
    """Whether a cutlass kernel for tensor cores was chosen for operands that are aligned to one or two elements only."""
    return bool(_UNALIGNED.search(name))


def short(name: str, width: int = 90) -> str:
    """A kernel's name as people know it: without return type, template and argument lists, cut at `width`."""
    text = re.sub(r"^(?:void|auto) ", "", name).replace("(anonymous namespace)::", "").replace("<unnamed>::", "")
    functor = (
        re.search(r"\b(\w*Functor\w*|\w+_kernel_cuda|\w+Ops?\b)", text[20:])
        if "elementwise" in text or "reduce" in text
        else None
    )
    head = re.split(r"[<(]", text, maxsplit=1)[0] or text
    if "cutlass" in head.lower() and "<" in text:
        head = f"{head}<{text.split('<', 1)[1].split('>')[0].split('(')[0]}>"
    elif functor and functor[1] not in head:
        head = f"{head} ({functor[1]})"
    return head if len(head) <= width else head[: width - 1] + "…"
