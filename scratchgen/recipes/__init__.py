"""The recipes by name. A recipe's module is imported when it is asked for."""

from __future__ import annotations

import importlib

from .base import Config, Recipe, Reference, TextRecipe

__all__ = ["RECIPES", "Config", "Recipe", "Reference", "TextRecipe", "find"]

RECIPES: dict[str, tuple[str, str]] = {  # model name -> (module, class)
    "autoencoder": ("autoencoder", "AutoencoderRecipe"),
    "vae": ("vae", "VAERecipe"),
    "gan": ("gan", "GANRecipe"),
    "wgan": ("wgan", "WGANRecipe"),
    "wgan-gp": ("wgan", "WGANGPRecipe"),
    "cgan": ("cgan", "CGANRecipe"),
    "ddpm": ("ddpm", "DDPMRecipe"),
    "gpt": ("gpt", "GPTRecipe"),
    "rlhf": ("rlhf", "RLHFRecipe"),
    "seq2seq": ("seq2seq", "Seq2SeqRecipe"),
    "transformer": ("transformer", "TransformerRecipe"),
    "vit": ("vit", "ViTRecipe"),
    "rbm": ("rbm", "RBMRecipe"),
    "ebm": ("ebm", "EBMRecipe"),
    "realnvp": ("realnvp", "RealNVPRecipe"),
    "glow": ("glow", "GlowRecipe"),
}


def find(name: str) -> type[Recipe]:
    """The recipe of a model. Raises KeyError with the list of models."""
    if name not in RECIPES:
        raise KeyError(f"no model named {name!r}; models: {', '.join(RECIPES)}")
    module, kind = RECIPES[name]
    found: type[Recipe] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    return found
