"""accelerate: words that FSDP's and the parallelism's options do not take, and engines that exclude each other."""

from __future__ import annotations

import difflib

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._hf import full, launched_fsdp
from advisor_mcp.linting.unit import Setting, Unit, as_number

ACCELERATE = ("accelerate", "accelerate_launch")
SHARDING = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
WORDS = {
    "sharding_strategy": (*SHARDING, "_HYBRID_SHARD_ZERO2"),
    "auto_wrap_policy": ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"),
    "backward_prefetch": ("BACKWARD_PRE", "BACKWARD_POST", "NO_PREFETCH"),
    "state_dict_type": ("FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"),
}
NUMBERED = {"sharding_strategy": 5, "backward_prefetch": 2, "state_dict_type": 3}  # torch's enumerations count from 1
ENGINES = ("multi_gpu", "cpu", "tpu", "use_deepspeed", "use_fsdp")


@rule("AC009", "word-unknown-to-fsdp", tools=ACCELERATE, harm="crash", causes=("unknown-choice", "fsdp-option"))
def word_unknown_to_fsdp(unit: Unit, job: Job) -> Found:
    """Allow word-unknown-to-fsdp.

    ## What it does
    Compares FSDP's sharding strategy, wrapping policy, prefetching and kind of checkpoint with the words (and numbers)
    that accelerate knows.

    ## Why is this bad?
    accelerate stops: "Invalid auto wrap policy: TRANSFORMER_WRAP. Must be one of ['TRANSFORMER_BASED_WRAP', ...]", or
    with a KeyError of torch's enumeration.

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_WRAP
      fsdp_sharding_strategy: FULL_SHARD
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_sharding_strategy: FULL_SHARD
    ```

    ## Versions
    All. Capitals do not matter.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, FullyShardedDataParallelPlugin
    - accelerate 1.15.0, utils/constants.py
    """
    for name, words in WORDS.items():
        if name == "sharding_strategy" and launched_fsdp(unit) == 2:
            continue  # not read
        found = unit.setting(f"fsdp_config.fsdp_{name}", f"fsdp_config.{name}", f"fsdp_{name}")
        if found is None or not isinstance(found.value, str | int) or isinstance(found.value, bool):
            continue
        number, text = as_number(found.value), str(found.value).upper()
        if (
            text in words
            or text in ("NONE", "NULL", "")
            or (number is not None and 1 <= number <= NUMBERED.get(name, 0))
        ):
            continue
        meant = next(iter(difflib.get_close_matches(text, words, 1, 0.6)), None)
        listed = ", ".join(word for word in words if not word.startswith("_"))
        yield Problem(
            found,
            f"{full(found)} is none of {listed}",
            set_value(found, meant) if meant else advise(f"use one of {listed}"),
        )


@rule("AC010", "attention-of-sequence-parallelism", tools=ACCELERATE, harm="crash", causes=("sp-attention",))
def attention_of_sequence_parallelism(unit: Unit, job: Job) -> Found:
    """Allow attention-of-sequence-parallelism.

    ## What it does
    Finds a `parallelism_config_sp_attn_implementation` that sequence parallelism cannot run with.

    ## Why is this bad?
    accelerate stops: "Invalid sp_attn_implementation: eager. 'eager' and 'flex_attention' are not supported with sequence
    parallelism."

    ## Example
    ```yaml accelerate.yaml
    distributed_type: DEEPSPEED
    num_processes: 8
    deepspeed_config:
      deepspeed_config_file: ds_z3.json
    parallelism_config:
      parallelism_config_sp_backend: deepspeed
      parallelism_config_sp_size: 2
      parallelism_config_sp_attn_implementation: eager
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: DEEPSPEED
    num_processes: 8
    deepspeed_config:
      deepspeed_config_file: ds_z3.json
    parallelism_config:
      parallelism_config_sp_backend: deepspeed
      parallelism_config_sp_size: 2
      parallelism_config_sp_attn_implementation: flash_attention_2
    ```

    ## Versions
    Since accelerate 1.12. FlashAttention 2 and 3 and SDPA are known, in newer versions flash-attn kernels of the hub too.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, DeepSpeedSequenceParallelConfig
    """
    name = "parallelism_config_sp_attn_implementation"
    found = unit.setting(f"parallelism_config.{name}", "parallelism_config.sp_attn_implementation", name)
    text = unit.text(found.name) if found else None
    if found is None or not text or text.lower() in ("none", "null"):
        return
    if text in ("flash_attention_2", "flash_attention_3", "sdpa") or ("/" in text and "flash-attn" in text):
        return
    yield Problem(
        found,
        f"{full(found)}: sequence parallelism runs with flash_attention_2, flash_attention_3 and sdpa",
        set_value(found, "flash_attention_2" if "flash" in text else "sdpa"),
    )


@rule(
    "AC111",
    "whole-weights-under-stage-3",
    tools=ACCELERATE,
    harm="oom",
    severity="warning",
    causes=("zero3-init-off",),
)
def whole_weights_under_stage_3(unit: Unit, job: Job) -> Found:
    """Allow whole-weights-under-stage-3.

    ## What it does
    Finds `zero3_init_flag: false` with ZeRO stage 3.

    ## Why is this bad?
    `from_pretrained` then loads the whole model in every process before it is sharded: eight processes hold eight copies
    in host memory, and a model that fits sharded is killed while it loads.

    ## Example
    ```yaml accelerate.yaml
    distributed_type: DEEPSPEED
    num_processes: 8
    mixed_precision: bf16
    deepspeed_config:
      zero_stage: 3
      zero3_init_flag: false
      zero3_save_16bit_model: true
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: DEEPSPEED
    num_processes: 8
    mixed_precision: bf16
    deepspeed_config:
      zero_stage: 3
      zero3_init_flag: true
      zero3_save_16bit_model: true
    ```

    ## Versions
    All. Not set it is on with stage 3.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, DeepSpeedPlugin
    - https://huggingface.co/docs/accelerate/usage_guides/deepspeed
    """
    inside = "deepspeed_config." if unit.tool == "accelerate" else ""
    flag = unit.setting(f"{inside}zero3_init_flag")
    if flag is None or unit.truth(flag.name, None) is not False or unit.whole(f"{inside}zero_stage") != 3:
        return
    if (unit.number("num_processes") or 2) < 2:
        return  # one copy either way
    yield Problem(
        flag,
        f"{full(flag)} with ZeRO stage 3 loads the whole model in every process",
        set_value(flag, True),
        (unit[f"{inside}zero_stage"],),
    )


@rule("AC112", "engines-that-exclude-each-other", tools=("accelerate_launch",), harm="crash", causes=("two-engines",))
def engines_that_exclude_each_other(unit: Unit, job: Job) -> Found:
    """Allow engines-that-exclude-each-other.

    ## What it does
    Finds more than one of `--multi_gpu`, `--cpu`, `--tpu`, `--use_deepspeed` and `--use_fsdp`.

    ## Why is this bad?
    accelerate stops: "You can only use one of `--cpu`, `--multi_gpu`, `--tpu`, `--use_deepspeed`, `--use_fsdp` at a
    time." DeepSpeed and FSDP start the processes themselves.

    ## Example
    ```bash launch.sh
    accelerate launch --multi_gpu --use_deepspeed --zero_stage 2 --num_processes 8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    accelerate launch --use_deepspeed --zero_stage 2 --num_processes 8 train.py
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, commands/launch.py, _validate_launch_command
    """
    chosen = [found for name in ENGINES if (found := unit.on(name)) is not None]
    if len(chosen) > 1:
        said = " and ".join(found.written for found in chosen)
        plain = [found for found in chosen if found.name in ("multi_gpu", "cpu", "tpu")]
        fix = remove(plain[0]) if len(chosen) == 2 and plain else advise("keep one of them")
        yield Problem(chosen[0], f"{said} exclude each other", fix, tuple(chosen[1:]))


@rule(
    "AC113",
    "several-gpus-for-one-process",
    tools=("accelerate_launch",),
    harm="crash",
    causes=("accelerate-multigpu-1",),
)
def several_gpus_for_one_process(unit: Unit, job: Job) -> Found:
    """Allow several-gpus-for-one-process.

    ## What it does
    Finds `--multi_gpu` with fewer than two processes.

    ## Why is this bad?
    accelerate stops: "You need to use at least 2 processes to use `--multi_gpu`."

    ## Example
    ```bash launch.sh
    accelerate launch --multi_gpu --num_processes 1 train.py
    ```

    ## Use instead
    ```bash launch.sh
    accelerate launch --num_processes 1 train.py
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, commands/launch.py, _validate_launch_command
    """
    multi, processes = unit.on("multi_gpu"), unit.whole("num_processes")
    if multi is not None and processes is not None and processes < 2:
        place = unit["num_processes"]
        yield Problem(place, f"{multi.written} needs two processes or more, and {place.shown}", remove(multi), (multi,))


@rule("AC114", "mesh-without-fsdp2", tools=("accelerate_launch",), harm="crash", causes=("cp-needs-fsdp2",))
def mesh_without_fsdp2(unit: Unit, job: Job) -> Found:
    """Allow mesh-without-fsdp2.

    ## What it does
    Finds `--use_parallelism_config` on a launch line without `--use_fsdp` and `--fsdp_version 2`.

    ## Why is this bad?
    accelerate stops: "You cannot use `--use_parallelism_config` without `--use_fsdp` and `--fsdp_version=2`."

    ## Example
    ```bash launch.sh
    accelerate launch --use_fsdp --fsdp_version 1 --num_processes 8 --use_parallelism_config --parallelism_config_cp_size 8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    accelerate launch --use_fsdp --fsdp_version 2 --num_processes 8 --use_parallelism_config --parallelism_config_cp_size 8 train.py
    ```

    ## Versions
    Since accelerate 1.10.

    ## References
    - accelerate 1.15.0, commands/launch.py, _validate_launch_command
    """
    mesh = unit.on("use_parallelism_config")
    if mesh is None or unit.open:
        return
    version = unit.setting("fsdp_version")
    fsdp, number = unit.truth("use_fsdp", False), unit.number("fsdp_version", 1)
    if fsdp is False or (fsdp is True and number == 1):
        yield Problem(mesh, f"{mesh.written} needs --use_fsdp and --fsdp_version 2", _to_fsdp2(fsdp, version))


def _to_fsdp2(fsdp: bool, version: Setting | None) -> Fix:
    return set_value(version, 2) if fsdp and version else advise("add --use_fsdp --fsdp_version 2")
