"""Mem0 without a network, account or key: static word embeddings, no language model, Qdrant in a folder.

Averaged word vectors find memories by meaning well enough for demos and tests. They support English only.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from shared.errors import RefusedError

DIMENSIONS = 256


def embedded_config(path: str) -> dict[str, Any]:
    """Return a JSON-serialisable configuration for `mem0.Memory` that keeps everything in the folder `path`."""
    store = {"collection_name": "memories", "path": path, "on_disk": True, "embedding_model_dims": DIMENSIONS}
    return {
        "vector_store": {"provider": "qdrant", "config": store},
        "embedder": {"provider": "wordllama", "config": {"embedding_dims": DIMENSIONS}},
        "llm": {"provider": "none", "config": {}},
        "history_db_path": ":memory:",  # a file would keep deleted text
    }


def register(config: dict[str, Any]) -> dict[str, Any]:
    """Register both providers with mem0; returns `config` in a form that its fixed list of provider names accepts."""
    from mem0.embeddings.configs import EmbedderConfig
    from mem0.llms.configs import LlmConfig
    from mem0.utils.factory import EmbedderFactory, LlmFactory

    EmbedderFactory.provider_to_class["wordllama"] = f"{__name__}.{WordllamaEmbedding.__name__}"
    LlmFactory.register_provider("none", f"{__name__}.{NoLanguageModel.__name__}")
    accepted: dict[str, Any] = {"embedder": EmbedderConfig.model_construct(**config["embedder"])}
    if config.get("llm", {}).get("provider") == "none":
        accepted["llm"] = LlmConfig.model_construct(**config["llm"])
    return {**config, **accepted}


@cache
def load_wordllama() -> tuple[Tokenizer, NDArray[np.float16]]:
    """Read the wheel's files. Importing wordllama would configure root logging, and its loader uses the network."""
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the embedded Mem0 needs the package wordllama")
    package = Path(spec.origin).parent
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    (vectors,) = load_file(package / "weights" / f"l2_supercat_{DIMENSIONS}.safetensors").values()
    return tokenizer, vectors


class WordllamaEmbedding:
    """Has mem0's embedder interface but not its base class, so that mem0 is not imported before `register`."""

    def __init__(self, config: object) -> None:
        self.config = config

    def embed(self, text: str, *_: object, **__: object) -> list[float]:
        """The normalised sum of the words' vectors, which equals their normalised mean; zeros for no words."""
        tokenizer, vectors = load_wordllama()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        pooled = vectors[ids].sum(axis=0, dtype=np.float32)
        unit: list[float] = (pooled / (np.linalg.norm(pooled) or 1.0)).tolist()
        return unit

    def embed_batch(self, texts: list[str], *_: object, **__: object) -> list[list[float]]:
        return [self.embed(text) for text in texts]


class NoLanguageModel:
    """A placeholder: mem0 requires a language model even if it is never called. Only inference calls it."""

    def __init__(self, config: object) -> None:
        self.config = config

    def generate_response(self, *_: object, **__: object) -> NoReturn:
        raise RefusedError("mem0", "The embedded Mem0 has no language model: set MemoryInference=false.")
