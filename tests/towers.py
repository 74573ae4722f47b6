"""Checkpoints of the real tower classes, tiny and random, with a real tokenizer: small enough for every test."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    InternVLConfig,
    InternVLModel,
    InternVLVisionConfig,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

WORDS = ["a", "photo", "of", "red", "green", "blue", "circle", "square", "two", "left", "right", "make", "it", "user"]
CONTROL = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>", "<img>", "</img>", "<unk>"]


def save_tokenizer(folder: Path, adds_bos: bool = True) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with chat and image control tokens, beginning each text with <s> if asked to."""
    vocabulary = {word: index for index, word in enumerate(CONTROL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        additional_special_tokens=CONTROL[2:-1],
    )
    fast.save_pretrained(folder)
    return fast


def save_llama(folder: Path, adds_bos: bool = True, seed: int = 0) -> Path:
    """LlamaModel of 3 layers, width 32."""
    torch.manual_seed(seed)
    save_tokenizer(folder, adds_bos)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    LlamaModel(config).save_pretrained(folder)
    return folder


def save_internvl(folder: Path, seed: int = 0) -> Path:
    """InternVLModel of 3 language layers, width 32; an image is 4 tokens."""
    torch.manual_seed(seed)
    tokenizer = save_tokenizer(folder, adds_bos=False)
    text = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    vision = InternVLVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=[56, 56],
        patch_size=[14, 14],
    )
    config = InternVLConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        image_seq_length=4,
        downsample_ratio=0.5,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    InternVLModel(config).save_pretrained(folder)
    return folder


def plant_massive(folder: Path, channel: int = 17, value: float = 300.0) -> Path:
    """Give a tower of `save_llama` or `save_internvl` a massive activation: its first token, in one channel, ~`value`.

    As in trained models it comes out of the first block's feed-forward and stays in the residual stream. The token is
    recognised by a channel of its embedding that no other token has.
    """
    path = folder / "model.safetensors"
    weights = load_file(path)
    prefix = next(name for name in weights if name.endswith("embed_tokens.weight")).removesuffix("embed_tokens.weight")
    embedding = weights[f"{prefix}embed_tokens.weight"]
    first = CONTROL.index("<|im_start|>" if prefix else "<s>")
    embedding[:, 0] = 0.0
    embedding[first, 0] = 1.0
    layer = f"{prefix}layers.0."
    for name in ("self_attn.o_proj", "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj"):
        weights[f"{layer}{name}.weight"][0] = 0.0
    for name in ("gate_proj", "up_proj"):
        weights[f"{layer}mlp.{name}.weight"][0, 0] = 4.0
    weights[f"{layer}mlp.down_proj.weight"][:, 0] = 0.0
    weights[f"{layer}mlp.down_proj.weight"][channel, 0] = value / 500  # the gate lets about 500 through
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def save_perceptionlm(folder: Path, seed: int = 0) -> Path:
    """PerceptionLMModel of 2 language layers, width 32; an image is 1 token. Needs timm."""
    from transformers import PerceptionLMConfig, PerceptionLMModel, TimmWrapperConfig

    torch.manual_seed(seed)
    tokenizer = save_tokenizer(folder)
    vision = TimmWrapperConfig(
        architecture="vit_pe_core_large_patch14_336",
        model_args={
            "embed_dim": 64,
            "img_size": (14, 14),
            "depth": 2,
            "global_pool": "",
            "use_post_transformer_norm": False,
            "init_values": 0.1,
            "ref_feat_shape": (1, 1),
        },
    )
    text = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    config = PerceptionLMConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        vision_use_cls_token=True,
        projector_pooling_ratio=1,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    PerceptionLMModel(config).save_pretrained(folder)
    return folder
