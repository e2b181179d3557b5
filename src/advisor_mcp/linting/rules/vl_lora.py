"""vLLM and LoRA adapters."""

import json
import re
from pathlib import PurePosixPath
from typing import Any

from advisor_mcp.linting.edits import Fix, add_after, advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._vl import is_off, is_on, switch
from advisor_mcp.linting.unit import Setting, Unit, as_number

ALLOWED_RANKS = (8, 16, 32, 64, 128, 256)
OPTIONS = ("max_lora_rank", "max_loras", "max_cpu_loras", "fully_sharded_loras", "lora_dtype", "lora_target_modules")
LARGEST_ADAPTER_CONFIG = 100_000


@rule("VL030", "adapters-without-lora", tools=("vllm",), harm="crash", causes=("lora-disabled",))
def adapters_without_lora(unit: Unit, job: Job) -> Found:
    """Allow adapters-without-lora.

    ## What it does
    Finds `--lora-modules` without `--enable-lora`.

    ## Why is this bad?
    The engine is built without room for adapters and the server stops when it loads the first: "LoRA is not enabled. Use
    --enable-lora to enable LoRA."

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --lora-modules sql=/adapters/sql
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --lora-modules sql=/adapters/sql
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, v1/worker/lora_model_runner_mixin.py
    - vllm documentation, features/lora
    """
    setting = unit.setting("lora_modules")
    if setting is not None and _lora_is_off(unit):
        yield Problem(setting, "adapters are named, but enable-lora is not set", _enable(setting))


@rule(
    "VL031", "lora-options-without-lora", tools=("vllm",), harm="ignored", severity="warning", causes=("lora-disabled",)
)
def lora_options_without_lora(unit: Unit, job: Job) -> Found:
    """Allow lora-options-without-lora.

    ## What it does
    Finds options of LoRA without `--enable-lora`.

    ## Why is this bad?
    They have no effect, and requests for an adapter are answered with "LoRA is not enabled".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-lora-rank 64
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-lora-rank 64 --enable-lora
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, engine/arg_utils.py, create_engine_config
    """
    setting = unit.setting(*OPTIONS)
    if setting is not None and "lora_modules" not in unit and _lora_is_off(unit):
        yield Problem(setting, f"{setting.shown} has no effect: enable-lora is not set", _enable(setting))


@rule("VL032", "lora-rank-not-offered", tools=("vllm",), harm="crash", causes=("lora-rank-value",))
def lora_rank_not_offered(unit: Unit, job: Job) -> Found:
    """Allow lora-rank-not-offered.

    ## What it does
    Checks that `--max-lora-rank` is one of the ranks that the kernels are made for: 8, 16, 32, 64, 128, 256, from 0.8 on 320
    and 512, from 0.12 on 1.

    ## Why is this bad?
    vLLM stops: "max_lora_rank (24) must be one of (8, 16, 32, 64, 128, 256, 320, 512)". Adapters of a lower rank are padded,
    so the next larger one does.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --max-lora-rank 24
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --max-lora-rank 32
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/lora.py, MaxLoRARanks
    - vllm 0.6.6.post1, config.py, LoRAConfig
    """
    rank = unit.number("max_lora_rank", 16)
    allowed = _allowed_ranks(unit)
    if rank is not None and rank not in allowed:
        setting = unit["max_lora_rank"]
        larger = next((one for one in allowed if one > rank), None)
        fix = set_value(setting, larger) if larger else advise(f"the largest is {allowed[-1]}")
        yield Problem(setting, f"max_lora_rank is {rank:.12g}, and it is one of {', '.join(map(str, allowed))}", fix)


@rule("VL033", "fewer-host-adapters-than-slots", tools=("vllm",), harm="crash", causes=("lora-cpu",))
def fewer_host_adapters_than_slots(unit: Unit, job: Job) -> Found:
    """Allow fewer-host-adapters-than-slots.

    ## What it does
    Checks that `--max-cpu-loras` is at least `--max-loras`.

    ## Why is this bad?
    vLLM stops: "max_cpu_loras (1) must be >= max_loras (4)".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --max-loras 4 --max-cpu-loras 2
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --max-loras 4 --max-cpu-loras 8
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/lora.py, LoRAConfig
    """
    host, slots = unit.number("max_cpu_loras"), unit.number("max_loras", 1)
    if host is not None and slots is not None and host < slots:
        setting = unit["max_cpu_loras"]
        also = (unit["max_loras"],) if "max_loras" in unit else ()
        yield Problem(
            setting,
            f"max_cpu_loras is {host:.12g}, fewer than max_loras = {slots:.12g}",
            set_value(setting, int(slots)),
            also,
        )


@rule("VL034", "adapter-rank-above-maximum", tools=("vllm", "sglang"), harm="crash", causes=("lora-rank",))
def adapter_rank_above_maximum(unit: Unit, job: Job) -> Found:
    """Allow adapter-rank-above-maximum.

    ## What it does
    Compares the rank of the adapters (from an `adapter_config.json` beside the files, from the training configuration of the
    same job, or from a path that ends in `r64`) with `--max-lora-rank`, which is 16 by default in vLLM and the largest of
    `--lora-paths` in SGLang.

    ## Why is this bad?
    The adapter is refused: "LoRA rank 64 is greater than max_lora_rank 16".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --lora-modules sql=/adapters/sql
    ```
    ```json adapter_config.json
    {"peft_type": "LORA", "r": 64, "lora_alpha": 128, "target_modules": ["q_proj", "v_proj"]}
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --lora-modules sql=/adapters/sql --max-lora-rank 64
    ```
    ```json adapter_config.json
    {"peft_type": "LORA", "r": 64, "lora_alpha": 128, "target_modules": ["q_proj", "v_proj"]}
    ```

    ## Versions
    All.

    ## References
    - vllm-project/vllm#2847
    - hiyouga/LlamaFactory#9512
    - gpustack/gpustack#5438
    - vllm 0.33.0, lora/peft_helper.py, validate_legal
    - sglang 0.5.9, srt/lora/lora_manager.py, validate_new_adapter
    """
    most = unit.number("max_lora_rank", 16 if unit.tool == "vllm" else None)
    place = unit.setting("max_lora_rank", "lora_modules", "enable_lora")
    if most is None or place is None or is_off(unit, "enable_lora"):
        return
    for rank, said in _ranks(unit, job):
        if rank > most:
            allowed = _allowed_ranks(unit) if unit.tool == "vllm" else (rank,)
            wanted = next((one for one in allowed if one >= rank), None)
            message = f"the adapter has rank {rank} ({said}), more than max_lora_rank = {most:.12g}"
            yield Problem(place, message, _raise(place, wanted))
            return


@rule("VL035", "adapters-taking-turns", tools=("vllm",), harm="slow", severity="info", causes=("max-loras",))
def adapters_taking_turns(unit: Unit, job: Job) -> Found:
    """Allow adapters-taking-turns.

    ## What it does
    Compares the number of `--lora-modules` with `--max-loras`, which is 1 by default.

    ## Why is this bad?
    A batch holds requests of at most `max_loras` adapters. Requests for the others wait, and adapters are copied to the GPU
    and back as they take turns.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --lora-modules sql=/adapters/sql chat=/adapters/chat
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-lora --lora-modules sql=/adapters/sql chat=/adapters/chat --max-loras 2
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/lora.py, max_loras
    - vllm documentation, features/lora
    """
    adapters, slots = len(_modules(unit)), unit.number("max_loras", 1)
    if slots is not None and adapters > slots:
        place = unit.setting("max_loras", "lora_modules")
        if place is not None:
            message = f"{adapters} adapters share {slots:.12g} slot{'s' * (slots != 1)} of max_loras"
            fix = (
                set_value(place, adapters)
                if place.name == "max_loras"
                else add_after(place, _spelled(place, "max_loras"), adapters)
            )
            yield Problem(place, message, fix)


@rule("VL036", "runtime-adapters-with-several-servers", tools=("vllm",), harm="crash", causes=("lora-runtime",))
def runtime_adapters_with_several_servers(unit: Unit, job: Job) -> Found:
    """Allow runtime-adapters-with-several-servers.

    ## What it does
    Finds `VLLM_ALLOW_RUNTIME_LORA_UPDATING` with an `--api-server-count` of more than 1.

    ## Why is this bad?
    An adapter that is loaded at run time reaches one API server only; vLLM stops: "VLLM_ALLOW_RUNTIME_LORA_UPDATING cannot be
    used with api_server_count > 1".

    ## Example
    ```bash serve.sh
    export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
    vllm serve Qwen/Qwen3-8B --enable-lora --api-server-count 4
    ```

    ## Use instead
    ```bash serve.sh
    export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
    vllm serve Qwen/Qwen3-8B --enable-lora
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, entrypoints/cli/serve.py, run_multi_api_server
    """
    variable, count = unit.env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING"), unit.number("api_server_count", 1)
    if variable is not None and str(variable.value).lower() in ("1", "true") and count is not None and count > 1:
        setting = unit["api_server_count"]
        message = f"adapters cannot be loaded at run time with {count:.12g} API servers"
        yield Problem(setting, message, set_value(setting, 1), (variable,))


def _lora_is_off(unit: Unit) -> bool:
    if is_on(unit, "enable_lora") or (switch(unit, "enable_lora")[0] is not None and not is_off(unit, "enable_lora")):
        return False
    return is_off(unit, "enable_lora") or unit.absent("enable_lora", "default_mm_loras")


def _enable(setting: Setting) -> Fix:
    return add_after(setting, _spelled(setting, "enable_lora"), None if setting.syntax == "shell" else True)


def _spelled(setting: Setting, name: str) -> str:
    if setting.syntax == "shell":
        return "--" + name.replace("_", "-")
    return name.replace("_", "-") if "-" in setting.written else name


def _allowed_ranks(unit: Unit) -> tuple[int, ...]:
    low = (1,) if unit.since("0.12") else ()
    return (*low, *ALLOWED_RANKS, *((320, 512) if unit.since("0.8") else ()))


def _raise(place: Setting, rank: int | None) -> Fix:
    if rank is None:
        return advise("merge the adapter into the weights")
    if place.name == "max_lora_rank":
        return set_value(place, rank)
    return add_after(place, _spelled(place, "max_lora_rank"), rank)


def _modules(unit: Unit) -> list[tuple[str, str]]:
    """Names and paths of the adapters on the command line."""
    found = list[tuple[str, str]]()
    value = unit.value("lora_modules" if unit.tool == "vllm" else "lora_paths")
    for item in value if isinstance(value, list) else value.split() if isinstance(value, str) else []:
        if isinstance(item, str) and re.fullmatch(r"[^={\[]+=\S+", item):
            name, _, path = item.partition("=")
            found.append((name, path))
    return found


def _ranks(unit: Unit, job: Job) -> list[tuple[int, str]]:
    """Ranks of the adapters that the server will load, and where each is said."""
    found = list[tuple[int, str]]()
    for name, source in job.files.items():
        if PurePosixPath(name).name == "adapter_config.json":
            found += _config_rank(source.text, PurePosixPath(name).name)
    for name, path in _modules(unit):
        local = (
            job.folder / path / "adapter_config.json" if job.folder and not path.startswith(("/", "~", "..")) else None
        )
        if local is not None and local.is_file() and local.stat().st_size < LARGEST_ADAPTER_CONFIG:
            found += _config_rank(local.read_text(encoding="utf-8", errors="replace"), f"{path}/adapter_config.json")
        marked = re.search(r"(?:^|[-_/])(?:r|rank)[-_]?(\d{1,4})(?:$|[-_/])", path.lower())
        if marked:
            found.append((int(marked[1]), f"by the path of {name}"))
    given = job.model(unit)
    for source_of, value in (
        ("given", given.get("lora_rank", "lora_r", "adapter_rank") if given is not None else None),
        *_trained(job),
    ):
        number = as_number(value)
        if number is not None:
            found.append((int(number), source_of))
    return found


def _config_rank(text: str, name: str) -> list[tuple[int, str]]:
    try:
        rank: Any = json.loads(text).get("r")
    except (ValueError, AttributeError):
        return []
    return [(rank, name)] if isinstance(rank, int) and not isinstance(rank, bool) else []


def _trained(job: Job) -> list[tuple[str, Any]]:
    """The ranks that training configurations of the same job give their adapters."""
    names = ("lora_r", "lora_rank", "lora.r")
    units = job.others("hf_trainer", "trl", "llamafactory", "axolotl")
    return [
        (f"{name} of {unit.tool}", unit[name].value)
        for unit in units
        for name in names
        if name in unit and unit[name].known
    ]
