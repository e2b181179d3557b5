"""Variables of Hugging Face's libraries, and secrets."""

import re

from advisor_mcp.linting.concepts import TRAINERS
from advisor_mcp.linting.edits import advise, remove, rename
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.unit import Setting, Unit, as_truth

CONTAINERS = ("docker", "compose", "k8s", "helm")
SECRETS = {
    "HF_TOKEN": r"hf_[A-Za-z0-9]{30,}",
    "HUGGING_FACE_HUB_TOKEN": r"hf_[A-Za-z0-9]{30,}",
    "HUGGINGFACE_HUB_TOKEN": r"hf_[A-Za-z0-9]{30,}",
    "WANDB_API_KEY": r"[0-9a-f]{40}|wandb_v1_\w{20,}",
    "OPENAI_API_KEY": r"sk-[A-Za-z0-9_-]{30,}",
    "ANTHROPIC_API_KEY": r"sk-ant-[A-Za-z0-9_-]{30,}",
    "AWS_SECRET_ACCESS_KEY": r"[A-Za-z0-9/+]{40}",
    "GITHUB_TOKEN": r"(ghp|gho|ghs)_[A-Za-z0-9]{30,}|github_pat_\w{30,}",
    "NGC_API_KEY": r"nvapi-[A-Za-z0-9_-]{30,}",
}


@rule("PT040", "cache-variable-not-read", tools=("env",), harm="ignored", severity="info", causes=("hf-cache-env",))
def cache_variable_not_read(unit: Unit, job: Job) -> Found:
    """Allow cache-variable-not-read.

    ## What it does
    Looks for `TRANSFORMERS_CACHE`, unless `HF_HOME` or `HF_HUB_CACHE` says where the cache is too. A warning where
    transformers 5 is named, information where no version is.

    ## Why is this bad?
    transformers 5 does not read it. Models go to the home directory, whose quota a large one fills.

    ## Example
    ```bash launch.sh transformers=5.0
    export TRANSFORMERS_CACHE=/scratch/hub
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh transformers=5.0
    export HF_HUB_CACHE=/scratch/hub
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    Deprecated in transformers 4.36, gone in 5.0.

    ## References
    - deepspeedai/DeepSpeed#4816
    - microsoft/Olive#2291
    - transformers 5.0.0, utils/hub.py
    """
    here, named = unit.setting("TRANSFORMERS_CACHE"), unit.package("transformers")
    if (
        here is None
        or any(name in unit for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"))
        or (named and named < (5,))
    ):
        return
    yield Problem(
        here,
        "transformers 5 does not read TRANSFORMERS_CACHE",
        rename(here, "HF_HUB_CACHE"),
        severity="warning" if named else "info",
    )


@rule(
    "PT041", "transfer-variable-not-read", tools=("env",), harm="ignored", severity="info", causes=("hf-transfer-env",)
)
def transfer_variable_not_read(unit: Unit, job: Job) -> Found:
    """Allow transfer-variable-not-read.

    ## What it does
    Looks for `HF_HUB_ENABLE_HF_TRANSFER=1`.

    ## Why is this bad?
    huggingface_hub 1.0 no longer has that way to transfer files: the variable does nothing.

    ## Example
    ```bash launch.sh
    export HF_HUB_ENABLE_HF_TRANSFER=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export HF_XET_HIGH_PERFORMANCE=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    huggingface_hub 1.0 and later; transformers 5 needs it.

    ## References
    - huggingface/huggingface_hub#3444
    - huggingface/huggingface_hub#4219
    """
    here = unit.setting("HF_HUB_ENABLE_HF_TRANSFER")
    hub = unit.package("huggingface_hub") or unit.package("huggingface-hub")
    old = (unit.package("transformers") or (5,)) < (5,) if hub is None else hub < (1,)
    if here is None or as_truth(here.value) is not True or "HF_XET_HIGH_PERFORMANCE" in unit or old:
        return
    yield Problem(
        here,
        "huggingface_hub 1.0 and later ignore HF_HUB_ENABLE_HF_TRANSFER",
        rename(here, "HF_XET_HIGH_PERFORMANCE", safe=False),
    )


def _seen(unit: Unit, name: str) -> Setting | None:
    """A variable that a unit sees, its own or that of what starts it, where it is on."""
    here: Unit | None = unit
    while here is not None:
        if name in here.env:
            return here.env[name] if as_truth(here.env[name].value) is True else None
        here = here.launcher
    return None


@rule("PT042", "upload-while-offline", tools=TRAINERS, harm="crash", causes=("hub-offline-push",))
def upload_while_offline(unit: Unit, job: Job) -> Found:
    """Allow upload-while-offline.

    ## What it does
    Looks for `push_to_hub` in a run with `HF_HUB_OFFLINE=1`.

    ## Why is this bad?
    The trainer creates the repository before the first step, and every request raises OfflineModeIsEnabled.

    ## Example
    ```bash launch.sh
    export HF_HUB_OFFLINE=1
    torchrun --standalone --nproc_per_node=8 run_clm.py --model_name_or_path /models/gpt2 --output_dir out \\
      --per_device_train_batch_size 1 --push_to_hub True
    ```

    ## Use instead
    ```bash launch.sh
    export HF_HUB_OFFLINE=1
    torchrun --standalone --nproc_per_node=8 run_clm.py --model_name_or_path /models/gpt2 --output_dir out \\
      --per_device_train_batch_size 1
    ```

    ## Versions
    All.

    ## References
    - huggingface_hub 2.4.0, utils/_http.py
    - transformers 5.23.0, trainer.py, init_hf_repo
    """
    here, offline = unit.setting("push_to_hub"), _seen(unit, "HF_HUB_OFFLINE")
    if here is not None and unit.truth("push_to_hub") is True and offline is not None:
        yield Problem(
            here, f"{here.shown} with {offline.shown}", remove(here, why="or upload after the run"), (offline,)
        )


@rule("PT043", "secret-in-a-script", tools=("env",), harm="security", severity="warning", causes=("secret-in-file",))
def secret_in_a_script(unit: Unit, job: Job) -> Found:
    """Allow secret-in-a-script.

    ## What it does
    Finds tokens and keys of well-known services written out as the value of their variable.

    ## Why is this bad?
    Whoever reads the file has the key, and scripts end up under version control.

    ## Example
    ```bash launch.sh
    export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export WANDB_API_KEY="$(cat ~/.wandb_key)"
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - Hugging Face documentation, hub/security-tokens
    - Weights & Biases documentation, environment variables
    """
    held = {id(setting) for other in job.units if other.tool in CONTAINERS for setting in other.env.values()}
    for name, form in SECRETS.items():
        here = unit.setting(name)
        if here is None or not isinstance(here.value, str) or not re.fullmatch(form, here.value):
            continue
        if name.startswith(("HF_", "HUGGING")) and id(here) in held:
            continue  # the rule on manifests has it
        yield Problem(
            here, f"{name} holds a key in plain text", advise("read it from a file or a secret, and revoke this one")
        )
