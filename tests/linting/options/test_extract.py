"""How the option tables are made: source text in, records out; nothing is imported, downloaded or run."""

from __future__ import annotations

import ast
import json
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from advisor_mcp.linting.options import Table
from advisor_mcp.linting.options.extract import compact, packages
from advisor_mcp.linting.options.extract.arguments import added
from advisor_mcp.linting.options.extract.compact import Snapshot
from advisor_mcp.linting.options.extract.fields import Options, class_fields, signature
from advisor_mcp.linting.options.extract.packages import Release
from advisor_mcp.linting.options.extract.readers import deepspeed, llama_cpp, sglang, vllm
from advisor_mcp.linting.options.extract.reading import Module, Package, Unknown


def release(folder: Path, **sources: str) -> Release:
    """A release whose files are given by name, "__" for "/"."""
    for name, text in sources.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return Release("1.0", folder)


def module(folder: Path, text: str) -> tuple[Package, Module]:
    package = Package(release(folder, tool=text))
    found = package.module("tool.py")
    assert found is not None
    return package, found


def fields(folder: Path, text: str, name: str = "Config") -> Options:
    package, found = module(folder, text)
    return class_fields(package, found, found.classes[name])


def flags(folder: Path, text: str) -> Options:
    package, found = module(folder, text)
    return added(package, found, found.tree)


def test_fields_have_type_default_choices_and_bounds(tmp_path: Path) -> None:
    text = """
        from enum import Enum
        from typing import Annotated, ClassVar, Literal, Optional, Union
        Kind = Literal["a", "b"]
        class Device(str, Enum):
            CPU = "cpu"
            NVME = "nvme"
        BIG = 2 ** 20
        class Config:
            registry: ClassVar[dict] = {}
            name: str
            rate: Optional[float] = Field(1e-3, ge=0, lt=1)
            kind: Kind = "a"
            either: Union[Kind, str, None] = None
            device: Device = Device.CPU
            layers: list[str] = field(default_factory=list, metadata={"help": "which"})
            steps: Annotated[int, Field(gt=0)] = BIG
            made: str = compute()
            hidden: int = field(default=0, init=False)
            _private: int = 0
    """
    assert fields(tmp_path, text) == {
        "name": {"t": "str", "req": True},
        "rate": {"t": "float|null", "d": 1e-3, "ge": 0, "lt": 1},
        "kind": {"t": "enum", "c": ["a", "b"], "d": "a"},
        "either": {"t": "enum|str|null", "c": ["a", "b"], "d": None},
        "device": {"t": "enum", "c": ["cpu", "nvme"], "d": "cpu"},
        "layers": {"t": "list", "d": []},
        "steps": {"t": "int", "gt": 0, "d": 1048576},
        "made": {"t": "str"},
    }


def test_an_heir_adds_and_replaces_and_may_stop_at_an_ancestor(tmp_path: Path) -> None:
    package = Package(
        release(
            tmp_path,
            pkg__base="class Base:\n    a: int = 1\n    b: int = 2\n",
            pkg__heir="from pkg.base import Base as _Base\nclass Heir(_Base):\n    b: int = 3\n    c: int = 4\n    a = 9\n",
        )
    )
    found = package.module("pkg/heir.py")
    assert found is not None
    node = found.classes["Heir"]
    assert {k: v["d"] for k, v in class_fields(package, found, node).items()} == {"a": 9, "b": 3, "c": 4}
    assert set(class_fields(package, found, node, stop=["Base"])) == {"b", "c"}


def test_choices_that_cannot_all_be_read_are_left_out(tmp_path: Path) -> None:
    text = """
        from elsewhere import Other
        class Config:
            kind: Literal["a", Other] = "a"
    """
    assert fields(tmp_path, text) == {"kind": {"t": "any", "d": "a"}}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("64 * 1024", 65536),
        ("-1e-5", -1e-5),
        ("[*NAMES, 'c']", ["a", "b", "c"]),
        ("list(TABLE.keys())", ["x", "y"]),
        ("TABLE['x']", 1),
        ("Holder.size", 7),
        ("[str(n) for n in NAMES]", ["a", "b"]),
        ("get_args(Literal['p', 'q'])", ["p", "q"]),
    ],
)
def test_expressions_of_constants_have_their_value(tmp_path: Path, expression: str, value: object) -> None:
    text = "NAMES = ('a', 'b')\nTABLE = {'x': 1, 'y': 2}\nclass Holder:\n    size: int = 7\n"
    package, found = module(tmp_path, text)
    assert package.value(found, ast.parse(expression, mode="eval").body) == value


@pytest.mark.parametrize(
    "expression", ["f()", "missing", "1 / 0", "torch.bfloat16", "2 ** 100000", "b'x'", "TABLE['z']"]
)
def test_what_only_running_would_tell_is_unknown(tmp_path: Path, expression: str) -> None:
    package, found = module(tmp_path, "TABLE = {'x': 1}\n")
    with pytest.raises(Unknown):
        package.value(found, ast.parse(expression, mode="eval").body)


def test_a_name_that_leads_to_itself_is_unknown(tmp_path: Path) -> None:
    package, found = module(tmp_path, "a = b\nb = a\n")
    with pytest.raises(Unknown):
        package.value(found, ast.parse("a", mode="eval").body)


def test_a_warning_names_the_new_name(tmp_path: Path) -> None:
    text = """
        class Config:
            max_seq_length: int = 1
            max_length: int = 1
            use_fast: bool = False
            disable_log: bool = False
            enable_log: bool = True
            top_k: int = 0
            def __post_init__(self):
                warnings.warn("`max_seq_length` is deprecated and will be removed in version 0.20.0. Use `max_length` instead.")
                warnings.warn("`disable_log` is deprecated, use `enable_log` instead.")
                warnings.warn("The value `None` for `top_k` is deprecated. Use `top_k=0` instead.")
                raise ValueError("`use_fast` is no longer supported")
    """
    merged = compact.merged("", [Snapshot("1.0", "", {"": fields(tmp_path, text)})], {})
    assert {k: {w: v for w, v in row.items() if w in {"dep", "to"}} for k, row in merged.items()} == {
        "max_seq_length": {"dep": "deprecated, to be removed in 0.20.0", "to": "max_length"},
        "max_length": {},
        "use_fast": {"dep": "no longer supported: stops with an error"},
        "disable_log": {"dep": "deprecated, use enable_log"},
        "enable_log": {},
        "top_k": {},
    }


def test_flags_have_spellings_values_and_switches(tmp_path: Path) -> None:
    text = """
        SIZES = (8, 16)
        def build(parser):
            group = parser.add_argument_group("g")
            parser.add_argument("script", help="positional")
            group.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
            group.add_argument("--block-size", type=int, choices=SIZES, default=None)
            group.add_argument("--eager", action="store_true")
            group.add_argument("--no-fusion", action="store_false", dest="fusion")
            group.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True)
            group.add_argument("--ports", type=int, nargs="+", required=True)
            group.add_argument("--old", action=DeprecatedStoreTrueAction, new_flag="--eager")
            group.add_argument(f"--{computed}", type=int)
    """
    assert flags(tmp_path, text) == {
        "tensor_parallel_size": {"t": "int", "d": 1, "a": ["-tp"]},
        "block_size": {"t": "enum", "d": None, "c": [8, 16]},
        "eager": {"t": "bool", "d": False, "n": 0},
        "no_fusion": {"t": "bool", "n": 0},
        "cache": {"t": "bool", "d": True, "n": 0, "a": ["--no-cache"]},
        "ports": {"t": "list", "n": "+", "req": True},
        "old": {"t": "bool", "d": None, "n": 0, "dep": "deprecated", "mentions": ["--eager"]},
    }


def test_a_signature_gives_its_named_arguments(tmp_path: Path) -> None:
    package, found = module(tmp_path, "def f(self, a, b: int = 2, *rest, c: str = 'x', **more):\n    pass\n")
    assert signature(package, found, found.functions["f"]) == {
        "a": {"t": "any", "req": True},
        "b": {"t": "int", "d": 2},
        "c": {"t": "str", "d": "x"},
    }


def test_deepspeed_keys_are_followed_from_the_file_into_its_sections(tmp_path: Path) -> None:
    source = release(
        tmp_path,
        deepspeed__runtime__constants='ZERO = "zero_optimization"\nSTEPS = "steps_per_print"\nACT = "activation"\n',
        deepspeed__runtime__config="""
            from deepspeed.runtime.constants import *
            from deepspeed.runtime.zero import get_zero
            _REMOVED_TOP_LEVEL_CONFIG_KEYS = {"amp": "gone"}
            def get_scalar_param(d, k, v):
                return d.get(k, v)
            class Activation:
                def __init__(self, param_dict):
                    section = param_dict.get(ACT, {})
                    self.cpu = get_scalar_param(section, "cpu", False)
            class DeepSpeedConfig:
                def __init__(self, config):
                    self._param_dict = config
                    self.read(self._param_dict)
                def read(self, param_dict):
                    self.steps = get_scalar_param(param_dict, STEPS, 10)
                    self.zero = get_zero(param_dict)
                    self.activation = Activation(param_dict)
                    for key in ["bf16", "bfloat16"]:
                        if key in param_dict:
                            self.on = param_dict[key]["enabled"]
        """,
        deepspeed__runtime__zero="""
            class Offload:
                device: str = "none"
            class Zero:
                stage: int = Field(0, ge=0, le=3)
                offload: Offload = Field(None, alias="offload_optimizer")
            def get_zero(param_dict):
                return Zero(**param_dict.get("zero_optimization", {}))
        """,
    )
    assert deepspeed.read(source).scopes == {
        "": {
            "steps_per_print": {"d": 10, "t": "int"},
            "zero_optimization": {"d": {}, "t": "dict"},
            "activation": {"d": {}, "t": "dict"},
            "bf16": {},
            "bfloat16": {},
            "amp": {"gone": "removed: DeepSpeed stops with an error"},
        },
        "activation": {"cpu": {"d": False, "t": "bool"}},
        "bf16": {"enabled": {}},
        "bfloat16": {"enabled": {}},
        "zero_optimization": {
            "stage": {"t": "int", "d": 0, "ge": 0, "le": 3},
            "offload": {"t": "dict", "d": None, "a": ["offload_optimizer"]},
        },
        "zero_optimization.offload": {"device": {"t": "str", "d": "none"}},
        "zero_optimization.offload_optimizer": {"device": {"t": "str", "d": "none"}},
    }


def test_vllm_flags_are_made_from_the_configuration_classes(tmp_path: Path) -> None:
    source = release(
        tmp_path,
        vllm__config="""
            class ParallelConfig:
                tensor_parallel_size: int = Field(default=1, ge=1)
                ray: bool = False
        """,
        vllm__envs="""
            if TYPE_CHECKING:
                VLLM_PORT: int | None = None
            environment_variables = {"VLLM_PORT": lambda: 1, "VLLM_NEW": lambda: 2}
        """,
        vllm__engine__arg_utils="""
            from vllm.config import ParallelConfig
            class EngineArgs:
                @staticmethod
                def add_cli_args(parser):
                    parallel_kwargs = get_kwargs(ParallelConfig)
                    parser.add_argument("--tensor-parallel-size", "-tp", **parallel_kwargs["tensor_parallel_size"])
                    parser.add_argument("--ray", **{**parallel_kwargs["ray"], "default": None})
        """,
        vllm__entrypoints__openai__cli_args='class FrontendArgs:\n    port: int = 8000\n    """Port number."""\n',
        vllm__utils__argparse_utils="_inverse_prefixes = {}\n",
    )
    assert vllm.read(source).scopes == {
        "serve": {
            "port": {"t": "int", "d": 8000},
            "tensor_parallel_size": {"t": "int", "d": 1, "ge": 1, "a": ["-tp"]},
            "ray": {"t": "bool", "d": None, "n": 0, "a": ["--no-ray"]},
        },
        "env": {"VLLM_PORT": {"t": "int|null", "d": None}, "VLLM_NEW": {}},
    }


def test_sglang_flags_are_made_from_annotated_fields(tmp_path: Path) -> None:
    source = release(
        tmp_path,
        sglang__srt__server_args="""
            class ServerArgs:
                model_path: A[str, Arg(help="weights", aliases=["--model"])]
                tp_size: A[int, Arg(help="x", cli_name="--tensor-parallel-size", aliases=["--tp-size"])] = 1
                log: A[bool, "on"] = False
                hidden: A[int, Arg(no_cli=True)] = 0
        """,
        sglang__srt__environ="""
            class Envs:
                SGLANG_FAST = EnvBool(True)
            _DEPRECATED_ENVS = {"SGLANG_OLD": _DeprecatedEnv(replacement="SGLANG_FAST")}
        """,
    )
    assert sglang.read(source).scopes == {
        "serve": {
            "model_path": {"t": "str", "req": True, "a": ["--model"]},
            "tensor_parallel_size": {"t": "int", "d": 1, "a": ["--tp-size"]},
            "log": {"t": "bool", "d": False, "n": 0, "a": []},
        },
        "env": {
            "SGLANG_FAST": {"t": "bool", "d": True},
            "SGLANG_OLD": {"dep": "deprecated", "mentions": ["SGLANG_FAST"]},
        },
    }


def test_llama_cpp_options_are_read_from_its_declarations(tmp_path: Path) -> None:
    path = tmp_path / llama_cpp.SOURCE
    path.parent.mkdir(parents=True)
    path.write_text(
        """
        add_opt(common_arg(
            {"-c", "--ctx-size"}, "N", "size (of the context)",
            [](common_params & params, int value) { params.n_ctx = value; }
        ).set_env("LLAMA_ARG_CTX_SIZE"));
        add_opt(common_arg(
            {"--mmap"}, {"--no-mmap"}, string_format("map (default: %s)", "on"),
            [](common_params & params, bool value) { params.mmap = value; }
        ).set_examples({LLAMA_EXAMPLE_SERVER}));
        add_opt(common_arg({"--draft"}, "N", "the argument has been removed. use --ctx-size",
            [](common_params &, int) { arg_removed("use --ctx-size"); }).set_examples({LLAMA_EXAMPLE_CLI}));
        """,
        encoding="utf-8",
    )
    size = {"t": "int", "a": ["-c"]}
    refused = {"t": "int", "dep": "no longer supported: stops with an error", "mentions": ["--ctx-size"]}
    assert llama_cpp.read(Release("1.0", tmp_path)).scopes == {
        "server": {"ctx_size": size, "mmap": {"t": "bool", "n": 0, "a": ["--no-mmap"]}},
        "cli": {"ctx_size": size, "draft": refused},
        "env": {"LLAMA_ARG_CTX_SIZE": {"t": "int"}},
    }


def test_releases_are_merged_into_spans_and_changes_that_read_back_the_same(tmp_path: Path) -> None:
    first: Options = {"a": {"t": "int", "d": 1}, "b": {"t": "enum", "c": ["x", "y", "z"]}}
    second: Options = {"a": {"t": "int|null", "d": True}, "c": {"t": "str", "d": "s"}}
    third: Options = {"a": {"t": "int|null"}, "b": {"t": "enum", "c": ["y", "z", "w"]}, "c": {"gone": "refused"}}
    snapshots = [Snapshot(v, "", {"": o}) for v, o in (("1.0", first), ("2.0", second), ("3.0", third))]
    compact.write("tool", "us", snapshots, tmp_path / "tool.json")
    raw = json.loads((tmp_path / "tool.json").read_text(encoding="utf-8"))
    assert raw["scopes"] == {
        "": {
            "a": {"t": "int", "d": 1, "x": {"1": {"t": "int|null", "d": True}, "2": {"-": ["d"]}}},
            "b": {"t": "enum", "c": ["x", "y", "z"], "in": [0, 1, 2], "x": {"2": {"c+": ["w"], "c-": ["x"]}}},
            "c": {"t": "str", "d": "s", "in": [1, 2], "gone": "refused"},
        }
    }
    read = Table("tool", tuple(raw["versions"]), tuple(raw["dates"]), "us", ("",), {}, {}, raw["scopes"])
    seen: list[dict[str, Any]] = [
        {n: (o.type, o.choices, o.default) for n, o in read.options("", v).items()} for v in read.versions
    ]
    assert [sorted(names) for names in seen] == [["a", "b"], ["a", "c"], ["a", "b"]]
    assert seen[0]["a"][2] == 1
    assert seen[1]["a"] == ("int|null", (), True)
    assert seen[2]["b"][1] == ("y", "z", "w")


def test_the_companion_release_meets_the_requirement_and_was_out(tmp_path: Path) -> None:
    other = {"versions": ["1.0", "1.1", "2.0"], "dates": ["2024-01-01", "2024-06-01", "2025-01-01"], "scopes": {}}
    (tmp_path / "other.json").write_text(json.dumps(other), encoding="utf-8")
    snapshots = [
        Snapshot("a", "2024-03-01", {}, requires={"other": ">=1.0"}),
        Snapshot("b", "2024-07-01", {}, requires={"other": ">=1.0,!=1.1"}),
        Snapshot("c", "2024-07-01", {}, requires={"other": "<2"}),
    ]
    assert compact.companions("other", snapshots, tmp_path) == ["1.0", "1.0", "1.1"]


@pytest.mark.parametrize(
    ("metadata", "requirement"),
    [
        ("Requires-Dist: transformers>=4.56.2\n", ">=4.56.2"),
        ("Requires-Dist: transformers (<5,>=4.49.0)\n", "<5,>=4.49.0"),
        ('Requires-Dist: transformers[torch]; extra == "dev"\n', ""),
        ("Requires-Dist: transformers-stream>=1\n", ""),
    ],
)
def test_a_requirement_is_read_from_the_metadata(metadata: str, requirement: str) -> None:
    assert compact.requirement(metadata, "transformers") == requirement


def test_unpacking_keeps_what_is_wanted_inside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as wheel:
        for name, data in {
            "tool/a.py": b"x = 1\n",
            "../outside.py": b"x = 2\n",
            "tool/data.bin": b"no",
            "tool/lib.so.2": b"\x7fELF\x00NCCL_DEBUG\x00lower_case\x00NCCL_ALGO\x00",
            "tool-1.0.dist-info/METADATA": b"Name: tool\n",
        }.items():
            wheel.writestr(zipfile.ZipInfo(name, (2025, 3, 4, 0, 0, 0)), data)
    root = tmp_path / "unpacked"
    packages.unpack(archive, root, lambda path: not path.endswith(".bin"))
    found = Release("1.0", root)
    assert found.files("**/*.py") == ["tool/a.py"]
    assert found.text("tool/lib.so.2.names").split() == ["NCCL_ALGO", "NCCL_DEBUG"]
    assert found.date == "2025-03-04"
    assert not (tmp_path / "outside.py").exists()
