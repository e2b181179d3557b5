"""Record exact counts from transformers' own classes: `python -m benchmarks.record_counts [FILE ...]`.

Needs torch and transformers (not part of any extra). Each file of `tests/cases/counts/` holds configurations; this fills in
the parameters that the class has on torch's meta device, and for tiny configurations the FLOPs that
`torch.utils.flop_counter` counts of one forward pass with eager attention. The tests then need neither library.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

CASES = Path(__file__).resolve().parents[1] / "tests" / "cases" / "counts"


def main(names: list[str]) -> int:
    """Fill in the files named, or all of them."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    for path in [Path(name) for name in names] or sorted(CASES.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        for case in data["cases"]:
            case["parameters"] = _parameters(transformers, torch, case)
            if length := case.get("flops_length"):
                case["forward_flops_full"] = _flops(transformers, torch, case, length)
            if length := case.get("eager_flops_length"):  # where the class computes a recurrence in another form
                case["eager_forward_flops"] = _flops(transformers, torch, case, length)
        data["made_with"] = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        print(path.name, [case["parameters"] for case in data["cases"]])
    return 0


def _model(transformers: Any, case: dict[str, Any]) -> Any:
    config_class = transformers.CONFIG_MAPPING[case["config"]["model_type"]]
    config = config_class.from_dict({k: v for k, v in case["config"].items() if k != "quantization_config"})
    config._attn_implementation = "eager"
    if hasattr(config, "_experts_implementation"):
        config._experts_implementation = "eager"
    return getattr(transformers, case["class"])(config)


def _parameters(transformers: Any, torch: Any, case: dict[str, Any]) -> int:
    with torch.device("meta"):
        model = _model(transformers, case)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def _flops(transformers: Any, torch: Any, case: dict[str, Any], length: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    model = _model(transformers, case).eval().requires_grad_(False)
    ids = torch.arange(length)[None] % 7
    given = {"decoder_input_ids": ids} if getattr(model.config, "is_encoder_decoder", False) else {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, **given)
    return int(counter.get_total_flops())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
