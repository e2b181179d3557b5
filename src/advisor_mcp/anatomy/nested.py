"""Configurations that stand inside another: files hold only what differs from their class's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families import family
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.multimodal import NO_VISION, filled, with_fields
from advisor_mcp.errors import CannotAnswer, UsageError, shown

Defaults = tuple[str, Mapping[str, Any]]
NO_AUDIO = "the configuration has no audio_config, so the audio tower is not counted"
# where files of the first releases of a wrapper hold the decoder and its head
INSIDE = {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}


def _dense(h: int, ffn: int, layers: int, heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    fields = {"hidden_size": h, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads}
    return fields | {"vocab_size": vocab} | more


# transformers 5.23.0; only what bears on a tensor's shape
DEFAULTS: dict[str, Defaults] = {
    "llama": ("LlamaConfig", _dense(4096, 11008, 32, 32, 32000)),
    "mistral": ("MistralConfig", _dense(4096, 14336, 32, 32, 32000, num_key_value_heads=8)),
    "ministral3": ("Ministral3Config", _dense(4096, 14336, 34, 32, 131072, num_key_value_heads=8, head_dim=128)),
    "mistral4": ("Mistral4Config", _dense(4096, 12288, 36, 32, 131072)),
    "qwen2": ("Qwen2Config", _dense(4096, 22016, 32, 32, 151936, num_key_value_heads=32)),
    "qwen3": ("Qwen3Config", _dense(4096, 22016, 32, 32, 151936, num_key_value_heads=32, head_dim=128)),
    "gemma": ("GemmaConfig", _dense(3072, 24576, 28, 16, 256000, num_key_value_heads=16, head_dim=256)),
    "gemma2": ("Gemma2Config", _dense(2304, 9216, 26, 8, 256000, num_key_value_heads=4, head_dim=256)),
    "phi3": ("Phi3Config", _dense(3072, 8192, 32, 32, 32064)),
    "cohere2": ("Cohere2Config", _dense(8192, 22528, 40, 64, 256000)),
    "exaone4": ("Exaone4Config", _dense(4096, 16384, 32, 32, 102400, num_key_value_heads=32)),
    "granite": ("GraniteConfig", _dense(4096, 11008, 32, 32, 32000)),
    "lfm2": ("Lfm2Config", _dense(2560, 12288, 32, 32, 65536, num_key_value_heads=8)),
    "persimmon": ("PersimmonConfig", _dense(4096, 16384, 36, 64, 262144)),
}


def text_part(c: Config) -> Config:
    """The decoder's configuration; raises `CannotAnswer` when the file has none and refuses a wrapper in a wrapper."""
    text = c.part("text_config")
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    if text.given("text_config"):
        raise UsageError(
            "text_config in the configuration holds another text_config; give the decoder's own fields there"
        )
    return text


def tie(c: Config, text: Config, default: bool) -> bool:
    """Whether the head is the embedding: the top level says so, else the decoder's part, else the class."""
    return c.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings", default=default))


def decoder(c: Config, model_type: str, tied: bool, preset: Defaults | None = None) -> Architecture:
    """The decoder that text_config describes (of `model_type` where it names none).

    Absent fields take the wrapper's `preset`, or else the defaults of the decoder's class.
    """
    text = text_part(c)
    kind = text.text("model_type") or model_type
    of, defaults = preset or DEFAULTS.get(kind, ("", {}))
    described = family(kind)(with_fields(filled(text, of, defaults), model_type=kind, tie_word_embeddings=tied))
    if any(block.tower for block in described.blocks):
        raise CannotAnswer(f"text_config names the model type {shown(kind)}, which is not a decoder alone")
    return described


def vision_part(c: Config) -> tuple[Config | None, tuple[str, ...]]:
    """The vision tower's configuration, and what to say when the file has none."""
    vision = c.part("vision_config")
    return vision, (NO_VISION,) if vision is None else ()


def ratio(c: Config, name: str, default: float) -> float:
    """A share in (0, 1]; an absent field takes `default`."""
    value = c.data.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-3 <= value <= 1:
        raise UsageError(f"{c.prefix}{name} in the configuration must be a number from 0.001 to 1, not {shown(value)}")
    return float(value)
