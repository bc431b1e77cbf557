"""Bytes of a model by its files' headers, and the refusal of one that does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runs
import small
import torch
from safetensors.torch import save_file

from operators import model_bytes
from operators.model_bytes import check_fits, gib, weight_bytes
from operators.model_files import ModelError, ModelOptions
from operators.models import ScoringModel
from pipelines.config import ConfigError


def floats(folder: Path) -> int:
    """Numbers in the weights, by loading them."""
    from safetensors.torch import load_file

    return sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())


def test_weights_count_in_the_dtype_they_are_cast_to(model_folder: Path) -> None:
    n = floats(model_folder)
    assert weight_bytes(model_folder) == weight_bytes(model_folder, "float32") == 4 * n
    assert weight_bytes(model_folder, "bfloat16") == 2 * n


def test_auto_follows_the_config(tmp_path: Path) -> None:
    folder = small.make_model_folder(tmp_path / "model", dtype=torch.bfloat16)
    assert weight_bytes(folder) == 2 * floats(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config))
    assert weight_bytes(folder) == 4 * floats(folder)


def test_whole_numbers_keep_their_width_and_twins_count_once(tmp_path: Path) -> None:
    one = {"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.int8)}
    save_file(one, tmp_path / "model-1.safetensors")
    save_file({"c": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model-2.safetensors")
    save_file(one, tmp_path / "consolidated.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text("{}")
    assert weight_bytes(tmp_path) == 4 * 15 + 7 + 2 * 2
    assert weight_bytes(tmp_path, "bfloat16") == 2 * 15 + 7 + 2 * 2


@pytest.mark.parametrize(
    "header", [b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x09" + b"\0" * 7 + b'{"a": {}}', b"", b"\x01" + b"\0" * 7]
)
def test_files_that_are_none_are_named(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(header)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        weight_bytes(tmp_path)


def test_a_model_that_does_not_fit_is_refused_with_both_numbers(model_folder: Path) -> None:
    needed = weight_bytes(model_folder)
    check_fits(model_folder, "auto", needed, "GPU X", "choose another")
    with pytest.raises(ModelError) as error:
        check_fits(model_folder, "auto", needed - 1, "0.25 of GPU X", "choose --dtype bfloat16")
    assert f"its weights take {gib(needed)} in float32, and 0.25 of GPU X has" in str(error.value)
    assert str(error.value).endswith("choose --dtype bfloat16. A model is not split over devices")


def test_a_machine_too_small_is_found_before_loading_and_at_plan_time(
    model_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_bytes, "machine_memory", lambda: 1000)
    said = r"its weights take .* in float32, and this machine has 0\.0 MiB for them: choose --dtype bfloat16"
    with pytest.raises(ModelError, match=said):
        ScoringModel.load(ModelOptions(str(model_folder), device="cpu"))
    with pytest.raises(ConfigError, match=said):
        runs.run(model_folder, corpus, tmp_path, device="cpu")
