"""Shell scripts are read, never run: what their own assignments say is known, everything else is a hole."""

from __future__ import annotations

import pytest

from advisor_mcp.linting.recognise import read_file
from advisor_mcp.linting.shell import Script, read_shell
from advisor_mcp.linting.source import SourceFile
from advisor_mcp.linting.unit import Unit


def script(text: str) -> Script:
    return read_shell(SourceFile("a.sh", text))


def words(text: str, at: int = -1) -> list[str]:
    return [word.text.replace("\0", "?") for word in script(text).commands[at].words]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run --a \\\n  --b 'x y' \"z\"", ["run", "--a", "--b", "x y", "z"]),
        ("TP=8\nrun --tp $TP --pp ${PP:-2} --dp ${DP}", ["run", "--tp", "8", "--pp", "2", "--dp", "?"]),
        ('ARGS="--a 1 --b"\nrun $ARGS "$ARGS"', ["run", "--a", "1", "--b", "--a 1 --b"]),
        ('ARGS=(--a "x y" # why\n --b)\nARGS+=(--c)\nrun "${ARGS[@]}"', ["run", "--a", "x y", "--b", "--c"]),
        ('run "$@" $UNSET', ["run", "?", "?"]),
        ("N=$((4 * 2))\nrun $N $((N / 3))", ["run", "8", "2"]),
        ("if [ $x ]; then N=1; else N=1; fi\nrun $N", ["run", "1"]),
        ("N=1\nif [ $x ]; then N=2; fi\nrun $N", ["run", "?"]),
        ("for i in 1 2; do :; done\nrun $i", ["run", "?"]),
        ("x=$(cat file)\nrun $x `date`", ["run", "?", "?"]),
        ("N=1\n(N=2)\nrun $N", ["run", "1"]),
        ("unset N\nrun a$N-b", ["run", "a?-b"]),
        ("run --a=1 > log 2>&1 &", ["run", "--a=1"]),
    ],
)
def test_words_of_a_command(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_comment_inside_a_continued_command_ends_it() -> None:
    assert [[w.text for w in c.words] for c in script("run --a \\\n  # --b \\\n  --c").commands] == [
        ["run", "--a"],
        ["--c"],
    ]


def test_a_word_from_a_variable_stands_where_it_was_written() -> None:
    found = script("ARGS='--a 1\n  --b 2'\nrun $ARGS").commands[-1].words[3]
    assert (found.text, found.span.line, found.span.column) == ("--b", 2, 3)


def test_a_here_document_is_a_file_of_its_own_in_its_place() -> None:
    found = script('TP=8\ncat <<EOF > ds.json\n{"a": $TP, "b": $NO, "c": "${NO}"}\nEOF\n').documents[0]
    assert found.target == "ds.json"
    assert found.source.text == '{"a": 8, "b": "__unknown__", "c": "__unknown__"}\n'
    assert found.source.position(found.source.text.index('"c"')) == (3, 22)


def units(text: str, name: str = "a.sh") -> list[Unit]:
    return read_file(SourceFile(name, text)).units


def test_launchers_and_what_they_start_are_units_with_their_environment() -> None:
    found = units(
        "#!/bin/bash\n#SBATCH --nodes=2\nexport NCCL_DEBUG=INFO\n"
        "OMP_NUM_THREADS=4 srun -N 2 torchrun --nproc_per_node=8 pretrain_gpt.py --num-layers 32 --hidden-size 64 --bf16\n"
    )
    assert [unit.tool for unit in found] == ["slurm", "env", "srun", "torchrun", "megatron-lm"]
    megatron = found[-1]
    assert megatron.number("num_layers") == 32
    assert megatron.truth("bf16") is True
    assert megatron.launcher is found[-2]
    assert sorted(megatron.env) == ["NCCL_DEBUG", "OMP_NUM_THREADS"]


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        ("nohup vllm serve m --port 1 &", "vllm"),
        ("python3 -u -m vllm.entrypoints.openai.api_server --model m", "vllm"),
        ("python -m sglang.launch_server --model-path m", "sglang"),
        ("docker run --gpus all -v a:b vllm/vllm-openai:v0.9.1 --model m", "vllm"),
        ("bash -c 'vllm serve m'", "vllm"),
        ("./llama-server -m x.gguf -c 4096", "llama.cpp"),
        ("accelerate launch --num_processes 8 sft.py --output_dir o --use_peft --per_device_train_batch_size 1", "trl"),
        (
            "numactl -N 0 python train.py --output_dir o --learning_rate 1 --bf16 True --num_train_epochs 1",
            "hf_trainer",
        ),
        ("$LAUNCHER vllm serve m", "vllm"),
    ],
)
def test_tools_are_known_behind_wrappers(text: str, tool: str) -> None:
    assert units(text)[-1].tool == tool


def test_the_script_behind_a_flag_that_a_launcher_does_not_know_is_no_value_of_it() -> None:
    launcher, script = units("accelerate launch --no_such_flag train.py --bar 3")
    assert (list(launcher.settings), script.entry_point, list(script.settings)) == (
        ["no_such_flag"],
        "train.py",
        ["bar"],
    )


def test_an_unknown_variable_leaves_the_options_open() -> None:
    assert units("vllm serve m $EXTRA")[-1].open
    assert not units("vllm serve m --port $PORT")[-1].open
    assert units("vllm serve m --port $PORT")[-1].number("port", 1) is None


def test_the_image_of_a_container_names_the_version() -> None:
    found = units("services:\n  a:\n    image: vllm/vllm-openai:v0.10.2\n    command: [--model, m]\n", "compose.yaml")
    assert [(unit.tool, unit.target) for unit in found] == [("compose", "v0.10.2"), ("vllm", "v0.10.2")]
