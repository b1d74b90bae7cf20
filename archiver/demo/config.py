"""The JSON files that describe a checkpoint to the libraries that load it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archiver.demo import architecture
from archiver.demo.quantization import quantization_config

if TYPE_CHECKING:
    from archiver.demo.architecture import Sizes, Variant
    from archiver.demo.tokenizer import Tokenizer


def model_config(variant: Variant, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    config = _with_vision(variant, tokenizer) if variant.vision else _text_only(variant, tokenizer)
    if (quantization := quantization_config(variant)) is not None:
        config["quantization_config"] = quantization
    return dict(sorted(config.items()))


def _names(variant: Variant) -> tuple[str, str]:
    """Return the model type, and what its classes begin with."""
    return ("qwen3_5_moe", "Qwen3_5Moe") if variant.sizes.moe else ("qwen3_5", "Qwen3_5")


def _with_vision(variant: Variant, tokenizer: Tokenizer) -> dict[str, Any]:
    family, name = _names(variant)
    return {
        "architectures": [f"{name}ForConditionalGeneration"],
        "image_token_id": tokenizer.id_of("<|image_pad|>"),
        "model_type": family,
        "text_config": _text_config(variant, tokenizer),
        "tie_word_embeddings": variant.tied,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": tokenizer.id_of("<|video_pad|>"),
        "vision_config": _vision_config(variant.sizes, family),
        "vision_end_token_id": tokenizer.id_of("<|vision_end|>"),
        "vision_start_token_id": tokenizer.id_of("<|vision_start|>"),
    }


def _text_only(variant: Variant, tokenizer: Tokenizer) -> dict[str, Any]:
    about = {
        "architectures": [f"{_names(variant)[1]}ForCausalLM"],
        "transformers_version": "4.57.0.dev0",
    }
    return about | _text_config(variant, tokenizer)


def _text_config(variant: Variant, tokenizer: Tokenizer) -> dict[str, Any]:
    sizes = variant.sizes
    text = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "eos_token_id": tokenizer.id_of("<|endoftext|>"),
        "full_attention_interval": len(architecture.LAYER_TYPES),
        "hidden_act": "silu",
        "hidden_size": sizes.hidden,
        "initializer_range": 0.02,
        "max_position_embeddings": 262144,
        "model_type": f"{_names(variant)[0]}_text",
        "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": False,
        "num_hidden_layers": len(architecture.LAYER_TYPES),
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": variant.tied,
        "use_cache": True,
        "vocab_size": sizes.vocab,
        "rope_parameters": _rope(),
    }
    return dict(sorted((text | _attention(sizes) | _mlp(sizes)).items()))


def _attention(sizes: Sizes) -> dict[str, Any]:
    return {
        "head_dim": architecture.HEAD_DIM,
        "layer_types": list(architecture.LAYER_TYPES),
        "linear_conv_kernel_dim": architecture.CONV_KERNEL,
        "linear_key_head_dim": architecture.LINEAR_HEAD_DIM,
        "linear_num_key_heads": sizes.linear_key_heads,
        "linear_num_value_heads": sizes.linear_value_heads,
        "linear_value_head_dim": architecture.LINEAR_HEAD_DIM,
        "mamba_ssm_dtype": "float32",
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
    }


def _mlp(sizes: Sizes) -> dict[str, Any]:
    if not sizes.moe:
        return {"intermediate_size": sizes.mlp}
    return {
        "moe_intermediate_size": sizes.mlp,
        "num_experts": architecture.EXPERTS,
        "num_experts_per_tok": architecture.EXPERTS_PER_TOKEN,
        "router_aux_loss_coef": 0.001,
        "shared_expert_intermediate_size": sizes.mlp,
    }


def _rope() -> dict[str, Any]:
    # A quarter of each head turns: 16 of 64 dimensions, so the sections add up to 8 pairs.
    return {
        "mrope_interleaved": True,
        "mrope_section": [3, 3, 2],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    }


def _vision_config(sizes: Sizes, family: str) -> dict[str, Any]:
    return {
        "deepstack_visual_indexes": [],
        "depth": architecture.VISION_DEPTH,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": sizes.vision_hidden,
        "in_channels": architecture.CHANNELS,
        "initializer_range": 0.02,
        "intermediate_size": sizes.vision_mlp,
        "model_type": family,
        "num_heads": sizes.vision_heads,
        "num_position_embeddings": architecture.POSITIONS,
        "out_hidden_size": sizes.hidden,
        "patch_size": architecture.PATCH,
        "spatial_merge_size": architecture.MERGE,
        "temporal_patch_size": architecture.TEMPORAL_PATCH,
    }


def image_config() -> dict[str, Any]:
    """Return the content of ``preprocessor_config.json``."""
    return _pixels(65536, 16777216) | {"image_processor_type": "Qwen2VLImageProcessorFast"}


def video_config() -> dict[str, Any]:
    """Return the content of ``video_preprocessor_config.json``."""
    return _pixels(4096, 25165824) | {"video_processor_type": "Qwen3VLVideoProcessor"}


def _pixels(least: int, most: int) -> dict[str, Any]:
    return {
        "size": {"longest_edge": most, "shortest_edge": least},
        "patch_size": architecture.PATCH,
        "temporal_patch_size": architecture.TEMPORAL_PATCH,
        "merge_size": architecture.MERGE,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of ``generation_config.json``."""
    end = tokenizer.id_of("<|endoftext|>")
    return {
        "bos_token_id": end,
        "do_sample": True,
        "eos_token_id": [tokenizer.id_of("<|im_end|>"), end],
        "pad_token_id": end,
        "temperature": 1.0,
        "top_k": 20,
        "top_p": 0.95,
        "transformers_version": "4.57.0.dev0",
    }
