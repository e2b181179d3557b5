"""TRL's GRPO and RLOO: groups of completions and how they fill the batches."""

from __future__ import annotations

from math import gcd

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import strategy
from advisor_mcp.linting.rules._hf import GROUPED, grouped, single
from advisor_mcp.linting.unit import Setting, Unit

TRL = ("trl",)


def _generations(unit: Unit) -> int | None:
    """Completions of a prompt."""
    return unit.whole("num_generations", None if unit.open else 2 if unit.scope == "rloo" else 8)


def _micro(unit: Unit) -> int | None:
    return unit.whole("per_device_train_batch_size", None if unit.open else 8)


def _steps(unit: Unit) -> int | None:
    """Micro batches that one generation fills on a device."""
    if unit.before("0.17"):
        return 1
    if single(unit, ("steps_per_generation",)):
        return unit.whole("steps_per_generation")
    return unit.whole("gradient_accumulation_steps", None if unit.open else 1)


def _place(unit: Unit) -> Setting | Unit:
    return unit.setting("num_generations", "per_device_train_batch_size", "generation_batch_size") or unit


def _divisor(unit: Unit, total: int, wanted: int) -> Fix:
    """Another group size, the largest that fits and is not larger."""
    setting = unit.setting("num_generations")
    right = next((size for size in range(min(wanted, total, 4096), 1, -1) if total % size == 0), total)
    fits = advise(f"use a group size that divides {total}, or batches that are a multiple of the group")
    return set_value(setting, right, why=f"a divisor of {total}") if setting and right > 1 else fits


@rule("TR001", "groups-that-do-not-fill-batches", tools=TRL, harm="crash", causes=("grpo-generations",))
def groups_that_do_not_fill_batches(unit: Unit, job: Job) -> Found:
    """Allow groups-that-do-not-fill-batches.

    ## What it does
    Checks that the completions of one generation are whole groups: devices x micro batch x steps per generation (or
    `generation_batch_size`) is a multiple of `num_generations`.

    ## Why is this bad?
    Rewards are compared within a group, so none may be cut: "The global train batch size (7 x 1) must be evenly divisible
    by the number of generations per prompt (8)", "generation_batch_size (10) must be divisible by num_generations (4)".

    ## Example
    ```yaml train.yaml world_size=7
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-1.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 1
    num_generations: 8
    ```

    ## Use instead
    ```yaml train.yaml world_size=7
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-1.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 1
    num_generations: 7
    ```

    ## Versions
    TRL 0.14 to 0.16 count one micro batch of each device, 0.17 and later all of an optimizer step or of
    `steps_per_generation`. A GPU that vLLM keeps for itself (0.14 to 0.17) is no training device.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    - trl 0.15.2, trainer/grpo_trainer.py
    - huggingface/open-r1#249
    - huggingface/open-r1#236
    """
    generations = _generations(unit)
    if not grouped(unit) or generations is None or generations < 2:
        return
    whole_batch = unit.whole("generation_batch_size", 0) if unit.since("0.18") else 0
    if whole_batch:
        if whole_batch % generations:
            said = f"generation_batch_size {whole_batch} is no multiple of num_generations {generations}"
            yield Problem(unit["generation_batch_size"], said, _divisor(unit, whole_batch, generations))
        return
    micro, steps, world = _micro(unit), _steps(unit), job.world_size(unit)
    if micro is None or steps is None or whole_batch is None:
        return
    if world is None:
        if (micro * steps) % generations:
            yield Skipped("the world size")
        return
    total = micro * steps * world
    if total % generations:
        said = f"{world} devices x {micro}" + (f" x {steps} steps" if steps > 1 else "") + f" = {total}"
        yield Problem(
            _place(unit),
            f"num_generations {generations} does not divide the {said} completions of a generation",
            _divisor(unit, total, generations),
        )


@rule("TR002", "group-of-one", tools=TRL, harm="crash", causes=("grpo-generations",))
def group_of_one(unit: Unit, job: Job) -> Found:
    """Allow group-of-one.

    ## What it does
    Finds `num_generations` below 2.

    ## Why is this bad?
    A completion is judged against the others of its group; alone its advantage is 0. TRL stops: "GRPO requires at least 2
    generations per prompt to calculate the advantages."

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 4
    num_generations: 1
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 4
    num_generations: 4
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    - huggingface/trl#3199
    - modelscope/ms-swift#3980
    """
    generations = _generations(unit)
    if grouped(unit) and "num_generations" in unit and generations is not None and generations < 2:
        setting = unit["num_generations"]
        yield Problem(
            setting,
            f"{setting.shown}: a group has at least 2 completions",
            set_value(setting, max(_micro(unit) or 4, 2)),
        )


@rule("TR003", "groups-that-do-not-fill-evaluation", tools=TRL, harm="crash", causes=("grpo-eval-generations",))
def groups_that_do_not_fill_evaluation(unit: Unit, job: Job) -> Found:
    """Allow groups-that-do-not-fill-evaluation.

    ## What it does
    Checks, where evaluation is on, that devices x `per_device_eval_batch_size` is a multiple of the group size
    (`num_generations_eval`, else `num_generations`).

    ## Why is this bad?
    TRL stops: "The global eval batch size (8 * 1) must be divisible by the number of generations used for evaluation".

    ## Example
    ```yaml train.yaml world_size=1
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 6
    num_generations: 6
    eval_strategy: steps
    ```

    ## Use instead
    ```yaml train.yaml world_size=1
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 6
    per_device_eval_batch_size: 6
    num_generations: 6
    eval_strategy: steps
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    when = strategy(unit, "eval_strategy", "evaluation_strategy")
    if not grouped(unit) or when in (None, "no"):
        return
    generations = unit.whole("num_generations_eval") or _generations(unit)
    micro, world = unit.whole("per_device_eval_batch_size", None if unit.open else 8), job.world_size(unit)
    if generations is None or generations < 2 or micro is None or micro % generations == 0:
        return
    if world is None:
        yield Skipped("the world size")
    elif micro * world % generations:
        place = (
            unit.setting("per_device_eval_batch_size", "num_generations_eval", "num_generations", "eval_strategy")
            or unit
        )
        step = generations // gcd(generations, world)
        fix = (
            set_value(place, step)
            if isinstance(place, Setting) and place.name == "per_device_eval_batch_size"
            else advise(f"set per_device_eval_batch_size to a multiple of {step}")
        )
        yield Problem(
            place,
            f"{world} devices x {micro} evaluate {micro * world} completions, no multiple of the group of {generations}",
            fix,
        )


@rule("TR004", "generation-that-does-not-fill-devices", tools=TRL, harm="crash", causes=("grpo-generation-batch",))
def generation_that_does_not_fill_devices(unit: Unit, job: Job) -> Found:
    """Allow generation-that-does-not-fill-devices.

    ## What it does
    Checks that `generation_batch_size` is a multiple of devices x `per_device_train_batch_size`.

    ## Why is this bad?
    TRL stops: "generation_batch_size (50) must be divisible by the global batch size (16)."

    ## Example
    ```yaml train.yaml world_size=2
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 8
    num_generations: 10
    generation_batch_size: 50
    ```

    ## Use instead
    ```yaml train.yaml world_size=2
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    per_device_train_batch_size: 8
    num_generations: 8
    generation_batch_size: 64
    ```

    ## Versions
    Since TRL 0.18.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    size, micro = unit.whole("generation_batch_size"), _micro(unit)
    if not grouped(unit) or not size or not micro or single(unit, ("steps_per_generation",)):
        return
    world, setting = job.world_size(unit), unit["generation_batch_size"]
    also = tuple(unit[name] for name in ("per_device_train_batch_size",) if name in unit)
    step = micro * (world or 1)
    if size % step:
        said = f"{world} devices x {micro} = {step}" if world else f"the micro batch of {micro}"
        yield Problem(
            setting, f"{setting.shown} is no multiple of {said}", set_value(setting, -(-size // step) * step), also
        )
    elif world is None:
        yield Skipped("the world size")


@rule("TR005", "generation-size-given-twice", tools=TRL, harm="crash", causes=("grpo-steps-both",))
def generation_size_given_twice(unit: Unit, job: Job) -> Found:
    """Allow generation-size-given-twice.

    ## What it does
    Finds `generation_batch_size` and `steps_per_generation` together.

    ## Why is this bad?
    Each follows from the other: "'generation_batch_size' and 'steps_per_generation' can not be both configured at the same
    time".

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    generation_batch_size: 64
    steps_per_generation: 4
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    steps_per_generation: 4
    ```

    ## Versions
    Since TRL 0.18.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    size, steps = single(unit, ("generation_batch_size",)), single(unit, ("steps_per_generation",))
    if unit.scope in GROUPED and size and steps:
        yield Problem(size, f"{size.shown} and {steps.shown}: only one can be set", remove(size), (steps,))


@rule("TR006", "batch-size-search-with-groups", tools=TRL, harm="crash", causes=("grpo-auto-batch",))
def batch_size_search_with_groups(unit: Unit, job: Job) -> Found:
    """Allow batch-size-search-with-groups.

    ## What it does
    Finds `auto_find_batch_size: true` in GRPO or RLOO.

    ## Why is this bad?
    A halved batch no longer holds whole groups; TRL stops: "auto_find_batch_size is not supported by GRPO".

    ## Example
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    auto_find_batch_size: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl grpo
    model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
    output_dir: out
    num_generations: 8
    per_device_train_batch_size: 8
    ```

    ## Versions
    Refused since TRL 1.11; before it the groups are mixed up.

    ## References
    - trl 1.16.0, trainer/grpo_config.py
    """
    search = unit.on("auto_find_batch_size")
    if search is not None and grouped(unit):
        yield Problem(
            search,
            f"{search.shown} breaks the groups of completions",
            remove(search),
            severity=None if unit.since("1.11") else "warning",
        )
