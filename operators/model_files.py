"""A model on disk: where it is, what its config says, and a fingerprint of its weights. Nothing is loaded.

Kept apart from `operators.models` so that a job can be checked without importing torch's and transformers' machinery.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xxhash

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.py")


class ModelError(ValueError):
    """The model cannot be loaded or cannot be scored exactly as asked; the message says what to do."""


@dataclass(frozen=True)
class ModelOptions:
    """`model`: local folder or hub id. `dtype` auto keeps the checkpoint's. `device` auto takes CUDA where there is
    one. `compile`: the body's layers; None compiles on CUDA where a compiler is found. `memory_share`: of the device's
    memory, for processes that share one.

    `deterministic`: rows do not change with their neighbours, bit for bit; on CUDA every batch is then computed at one
    fixed size, and without it rows keep their numbers to `operators.body.agree.AGREEMENT`. A CPU always keeps them.
    """

    model: str
    revision: str | None = None
    dtype: Dtype = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    compile: bool | None = None
    deterministic: bool = False
    memory_share: float = 1.0

    def torch_device(self) -> torch.device:
        """The device to score on.

        Raises:
            ModelError: CUDA is asked for and there is none.
        """
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ModelError(f"--device {self.device}: choose auto, cpu, cuda or cuda:N") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ModelError(f"--device {self.device}: this machine has no CUDA device; use --device cpu")
        return device


def model_folder(options: ModelOptions) -> Path:
    """The local folder of a model: itself, or the hub snapshot (downloaded once, safetensors and text files only).

    Raises:
        ModelError: no such folder and no such model on the hub, or no safetensors in it.
    """
    folder = Path(options.model).expanduser()
    if not folder.is_dir():
        folder = hub_snapshot(options.model, options.revision)
    check_folder(folder, options.model)
    return folder


def check_folder(folder: Path, model: str, *, weights: bool = True) -> None:
    """Raise ModelError if a folder is not that of a model; `weights`: with safetensors."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {model!r}: {folder} holds no config.json")
    if weights and not any(folder.glob("*.safetensors")):
        raise ModelError(f"model {model!r}: no .safetensors file in {folder}; convert the weights first")


def hub_snapshot(model: str, revision: str | None, *, weights: bool = True) -> Path:
    """A model's folder in this machine's cache of the hub; `weights`: with safetensors.

    Raises:
        ModelError: the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = [pattern for pattern in MODEL_FILES if weights or pattern != "*.safetensors"]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except HFValidationError as error:
        raise ModelError(f"model {model!r}: no such folder, and not a hub id either") from error
    except Exception as error:  # the hub client raises a zoo of network and lookup errors
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ModelError(f"model {model!r}: no such folder, and the hub did not give it ({reason})") from error


def fingerprint(folder: Path) -> str:
    """xxh3-128 over names and bytes of the config and weight files: equal weights anywhere have one fingerprint."""
    digest = xxhash.xxh3_128()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def context_limit(config: Any) -> int | None:
    """Longest sequence the model's positions were made for, or None where the config sets no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def read_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The text config of a model folder.

    Raises:
        ModelError: the config names an unknown architecture or asks for code of its own.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, OSError) as error:
        raise ModelError(f"model {folder}: {str(error).splitlines()[0]}") from error
    return config.get_text_config(decoder=True)
