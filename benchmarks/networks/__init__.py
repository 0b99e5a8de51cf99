"""Whole training steps: networks written once against torch's names, that run on every ``Library``."""

from .dcgan import dcgan
from .glow import glow
from .gpt import gpt, gpt_writing
from .rbm import rbm
from .seq2seq import seq2seq
from .step import Step, Training
from .survey_unet import survey_unet
from .transformer import transformer
from .unet import unet
from .vae import vae

STEPS = {
    step.name: step
    for step in (
        Step("VAE dense, batch 128", vae, samples=128, images=False, bar=1.5, agree=10),
        # Adam divides a gradient by its size; where that is all rounding, even two layouts of one library part: by
        # 2e-4 in the third step.
        Step("DCGAN 28x28, batch 64", dcgan, samples=64, images=True, bar=1.4, agree=2),
        Step(
            "U-Net 32 channels 32x32, batch 64",
            lambda L: unet(L, 32, batch=64),
            samples=64,
            images=True,
            bar=1.8,
            agree=20,
        ),
        Step("U-Net 64 channels 32x32, batch 64", lambda L: unet(L, 64, batch=64), samples=64, images=True, bar=1.8),
        Step(
            "U-Net of the survey 28x28, batch 64",
            lambda L: survey_unet(L, batch=64),
            samples=64,
            images=True,
            bar=1.5,
            agree=20,
        ),
        Step(
            "Glow 64 channels 28x28, batch 64",
            lambda L: glow(L, side=28, steps=8, width=64, batch=64),
            samples=64,
            images=True,
            bar=1.2,
        ),
        Step(
            "Glow 96 channels 8x8, batch 128",
            lambda L: glow(L, side=8, steps=8, width=96, batch=128),
            samples=128,
            images=True,
            bar=1.2,
        ),
        Step(
            "RBM 64-128 units, PCD-5, batch 100",
            lambda L: rbm(L, 64, 128, steps=5),
            samples=100,
            images=False,
            bar=1.5,
            tolerance=0.05,
        ),
        Step(
            "RBM 784-500 units, PCD-1, batch 100",
            lambda L: rbm(L, 784, 500, steps=1),
            samples=100,
            images=False,
            bar=1.5,
            tolerance=0.05,
        ),
        Step(
            "GPT 4 layers 4 heads 128, batch 12 length 64",
            lambda L: gpt(L, layers=4, heads=4, width=128, batch=12, length=64),
            samples=12,
            images=False,
            bar=1.15,
            agree=10,
        ),
        Step(
            "GPT 6 layers 6 heads 192, batch 32 length 256",
            lambda L: gpt(L, layers=6, heads=6, width=192, batch=32, length=256),
            samples=32,
            images=False,
            bar=1.15,
        ),
        # Tokens are counted, not texts.
        Step(
            "GPT writing 4 layers 4 heads 128, 1 text of 128",
            lambda L: gpt_writing(L, layers=4, heads=4, width=128, batch=1, length=128),
            samples=96,
            images=False,
            bar=1.0,
        ),
        Step(
            "GPT writing 4 layers 4 heads 128, 32 texts of 128",
            lambda L: gpt_writing(L, layers=4, heads=4, width=128, batch=32, length=128),
            samples=32 * 96,
            images=False,
            bar=1.0,
        ),
        Step(
            "Transformer 3 + 3 layers 4 heads 128, batch 64 length 16",
            lambda L: transformer(L, layers=3, heads=4, width=128, vocabulary=4000, batch=64, length=16),
            samples=64,
            images=False,
            bar=1.0,
            agree=10,
        ),
        Step(
            "LSTM with attention 128 units, batch 64 length 16",
            lambda L: seq2seq(L, hidden=128, vocabulary=2000, batch=64, length=16),
            samples=64,
            images=False,
            bar=1.0,
            agree=10,
        ),
    )
}

__all__ = [
    "STEPS", "Step", "Training", "dcgan", "glow", "gpt", "gpt_writing", "rbm", "seq2seq", "survey_unet", "transformer",
    "unet", "vae",
]  # fmt: skip
