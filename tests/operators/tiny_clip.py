"""A CLIP checkpoint of the real class: two layers, random weights, the alphabet for a vocabulary."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer


def save_tiny_clip(folder: Path) -> str:
    """Write model, tokenizer, `head.safetensors` and a head of NaN, `broken.safetensors`; returns the folder."""
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    letters = [chr(code) for code in range(97, 123)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, **tower}
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 8, **tower}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    save_file({"weight": torch.randn(1, 8), "bias": torch.tensor([5.0])}, folder / "head.safetensors")
    save_file({"weight": torch.full((1, 8), torch.nan), "bias": torch.zeros(1)}, folder / "broken.safetensors")
    return str(folder)
