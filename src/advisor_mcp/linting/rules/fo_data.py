"""LLM Foundry: where the data sets of its loaders come from, and how they are packed."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import unset, used
from advisor_mcp.linting.unit import Setting, Unit

LOADERS = ("train_loader", "eval_loader")
HUGGING_FACE = ("hf_kwargs", "preprocessing_fn", "safe_load")


def finetuning(unit: Unit) -> list[str]:
    """The paths of the data sets that the fine-tuning loader reads."""
    found = []
    for loader in LOADERS:
        entries = unit.value(loader)
        count = len(entries) if isinstance(entries, list) else 0
        for path in [f"{loader}.{number}" for number in range(count)] or [loader]:
            if unit.text(f"{path}.name") == "finetuning" and f"{path}.dataset" in unit:
                found.append(f"{path}.dataset")
    return found


def given(unit: Unit, path: str, *names: str) -> list[Setting]:
    """Those of these keys of a data set that hold something."""
    return [found for name in names if (found := used(unit, f"{path}.{name}")) is not None]


@rule("FO101", "two-sources-of-one-dataset", tools=("llm-foundry",), harm="crash", causes=("dataset-source",))
def two_sources_of_one_dataset(unit: Unit, job: Job) -> Found:
    """Allow two-sources-of-one-dataset.

    ## What it does
    Checks where a fine-tuning data set comes from: `hf_name`, or `remote` with `local`, or `streams`, and only one of them;
    `hf_kwargs`, `preprocessing_fn` and `safe_load` belong to `hf_name`.

    ## Why is this bad?
    "The dataset config sets a value for `hf_name` as well as the following keys: `remote`." Data read from the hub is
    loaded, streamed data is read from MDS shards; one entry cannot do both.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        remote: s3://bucket/dolly
        split: train
        max_seq_len: 2048
        decoder_only_format: true
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
    ```

    ## Versions
    All; `streams` since llm-foundry 0.6.

    ## References
    - llm-foundry 0.22.0, data/finetuning/dataloader.py, _validate_config
    """
    for path in finetuning(unit):
        yield from _sources(unit, path)


def _sources(unit: Unit, path: str) -> Found:
    hub, streams = given(unit, path, "hf_name"), given(unit, path, "streams")
    store = given(unit, path, "remote", "local")
    if hub:
        for extra in store:
            yield Problem(extra, f"{extra.shown} cannot be used with {hub[0].shown}", remove(extra), (hub[0],))
        return
    if not (store or streams):
        names = [f"{path}.{name}" for name in ("hf_name", "remote", "local", "streams")]
        if unset(unit, *names):
            at = unit[path]
            yield Problem(at, "the data set has no source", advise("set hf_name, or remote and local, or streams"))
        return
    main = store[0] if store else streams[0]
    for extra in given(unit, path, *HUGGING_FACE):
        yield Problem(
            extra, f"{extra.shown} is for data sets of the hub, not for {main.written}", remove(extra), (main,)
        )
    if store and streams:
        yield Problem(
            streams[0],
            f"streams cannot be used with {store[0].shown}",
            advise("put remote and local under streams"),
            (store[0],),
        )
    elif store and store[0].name.endswith(".remote") and unset(unit, f"{path}.local"):
        yield Problem(
            store[0],
            f"{store[0].shown} needs local, a folder to stream to",
            add_after(store[0], "local", "/tmp/streamed"),
        )


@rule("FO102", "hub-dataset-without-split", tools=("llm-foundry",), harm="crash", causes=("dataset-split",))
def hub_dataset_without_split(unit: Unit, job: Job) -> Found:
    """Allow hub-dataset-without-split.

    ## What it does
    Finds a fine-tuning data set with `hf_name` and without `split`.

    ## Why is this bad?
    The loader does not choose one: "When using a HuggingFace dataset from a URL, you must set the `split` key in the dataset
    config."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        max_seq_len: 2048
        decoder_only_format: true
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
    ```

    ## Versions
    llm-foundry 0.7 and later.

    ## References
    - llm-foundry 0.22.0, data/finetuning/dataloader.py, build_finetuning_dataloader
    """
    for path in finetuning(unit):
        name = used(unit, f"{path}.hf_name")
        if name and unset(unit, f"{path}.split"):
            split = "train" if path.startswith("train") else "test"
            yield Problem(name, f"{name.shown} has no split", add_after(name, "split", split))


@rule("FO103", "undecided-format", tools=("llm-foundry",), harm="crash", causes=("decoder-only-format",))
def undecided_format(unit: Unit, job: Job) -> Found:
    """Allow undecided-format.

    ## What it does
    Finds a fine-tuning data set without `decoder_only_format`.

    ## Why is this bad?
    "decoder_only_format must be set to either True or False, but it was None." It is true for all models but T5.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
    ```

    ## Versions
    llm-foundry 0.14 and later.

    ## References
    - llm-foundry 0.22.0, data/finetuning/dataloader.py, _validate_config
    """
    for path in finetuning(unit):
        beside = unit.setting(f"{path}.max_seq_len", f"{path}.hf_name", f"{path}.local")
        if not unset(unit, f"{path}.decoder_only_format") or unit.before("0.14") or beside is None:
            continue
        written = unit.settings.get(f"{path}.decoder_only_format")
        answer = unit.text("model.name") != "hf_t5"
        fix = remove(written) if written else add_after(beside, "decoder_only_format", answer)
        if written:
            fix = set_value(written, answer) if written.at.text else advise(f"set it to {answer}".lower())
        yield Problem(written or unit[path], "decoder_only_format must be true or false", fix)


@rule("FO104", "packing-that-is-refused", tools=("llm-foundry",), harm="crash", causes=("packing-ratio",))
def packing_that_is_refused(unit: Unit, job: Job) -> Found:
    """Allow packing-that-is-refused.

    ## What it does
    Checks the packing of a fine-tuning data set: `packing_ratio` is `auto` or at least 1, is used with
    `decoder_only_format: true`, and is there where `max_leftover_bins_to_keep` is.

    ## Why is this bad?
    "packing_ratio must be >= 1, if supplied", "On-the-fly packing is currently only supported for decoder-only formats.",
    "dataset.max_leftover_bins_to_keep has been defined, but dataset.packing_ratio has not been set."

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
        packing_ratio: 0.5
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
        packing_ratio: auto
    ```

    ## Versions
    All.

    ## References
    - llm-foundry 0.22.0, data/finetuning/dataloader.py, _build_collate_fn
    """
    for path in finetuning(unit):
        yield from _packing(unit, path)


def _packing(unit: Unit, path: str) -> Found:
    ratio, left = used(unit, f"{path}.packing_ratio"), unit.settings.get(f"{path}.max_leftover_bins_to_keep")
    if left is not None and left.known and left.value is not None and unset(unit, f"{path}.packing_ratio"):
        yield Problem(left, f"{left.shown} needs packing_ratio", remove(left))
    if ratio is None:
        return
    number = unit.number(f"{path}.packing_ratio")
    if (number is not None and number < 1) or (number is None and ratio.value != "auto"):
        yield Problem(ratio, f"{ratio.shown}: packing_ratio is auto or at least 1", set_value(ratio, "auto"))
    decoder = unit.settings.get(f"{path}.decoder_only_format")
    if decoder is not None and unit.truth(f"{path}.decoder_only_format") is False and number != 1:
        yield Problem(ratio, f"packing cannot be used with {decoder.shown}", remove(ratio), (decoder,))


@rule(
    "FO105",
    "packed-examples-mixed",
    tools=("llm-foundry",),
    harm="wrong_result",
    severity="warning",
    causes=("packing-contamination",),
)
def packed_examples_mixed(unit: Unit, job: Job) -> Found:
    """Allow packed-examples-mixed.

    ## What it does
    Finds `packing_ratio` for an MPT model without `attn_uses_sequence_id: true`.

    ## Why is this bad?
    Packed examples stand in one sequence, and each attends to those before it: the model learns from answers to other
    questions, without a message. LLM Foundry's own files say to switch the masks on with packing.

    ## Example
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: mpt_causal_lm
      attn_config:
        attn_impl: flash
        attn_uses_sequence_id: false
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
        packing_ratio: auto
    ```

    ## Use instead
    ```yaml train.yaml
    max_duration: 1ep
    model:
      name: mpt_causal_lm
      attn_config:
        attn_impl: flash
        attn_uses_sequence_id: true
    train_loader:
      name: finetuning
      dataset:
        hf_name: mosaicml/dolly_hhrlhf
        split: train
        max_seq_len: 2048
        decoder_only_format: true
        packing_ratio: auto
    ```

    ## Versions
    All. Hugging Face models get no such mask in LLM Foundry.

    ## References
    - mosaicml/llm-foundry#839
    - mosaicml/llm-foundry#1464
    - llm-foundry 0.22.0, models/mpt/modeling_mpt.py
    """
    ratio = used(unit, "train_loader.dataset.packing_ratio")
    if (
        ratio is None
        or unit.number("train_loader.dataset.packing_ratio") == 1
        or unit.text("model.name") != "mpt_causal_lm"
    ):
        return
    name = "model.attn_config.attn_uses_sequence_id"
    if unit.truth(name) is not False:
        return
    written = unit.settings.get(name)
    message = "packed examples attend to one another without attn_uses_sequence_id"
    if written is not None:
        yield Problem(written, message, set_value(written, True), (ratio,))
    else:
        yield Problem(ratio, message, advise("set model.attn_config.attn_uses_sequence_id to true"))
