"""What is refused and what is found out before a model scores anything."""

from __future__ import annotations

from pathlib import Path

import families
import pytest
import small
import torch
import transformers
from safetensors.torch import load_file, save_file

from operators import model_files
from operators.model_files import ModelError, ModelOptions, fingerprint
from operators.models import ScoringModel

SHAPE = {"vocab_size": 331, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def load(folder: Path, **more: object) -> ScoringModel:
    return ScoringModel.load(ModelOptions(str(folder), **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [*families.FAMILIES, *families.ALONE])
def test_every_family_loads_from_its_folder(family: str, tmp_path: Path) -> None:
    """Also those whose checkpoint holds no head, because it is tied to the embedding: that is not a missing weight."""
    model = load(small.make_model_folder(tmp_path / "model", family))
    assert model.packed == (family in families.FAMILIES)
    assert model.separate
    assert model.vocab_size == 331


def test_a_checkpoint_with_missing_weights_is_refused(model_folder: Path, tmp_path: Path) -> None:
    """transformers would fill them with random numbers, other ones in every process."""
    folder = small.make_model_folder(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    gone = [name for name in weights if "layers.1" in name or "lm_head" in name]
    save_file({k: v for k, v in weights.items() if k not in gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="the checkpoint lacks lm_head"):
        load(folder)


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    folder = small.make_model_folder(tmp_path / "model")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


def test_a_bidirectional_model_is_refused() -> None:
    config = transformers.BertConfig(**SHAPE, intermediate_size=96, max_position_embeddings=128)
    with pytest.raises(ModelError, match="not causal"):
        ScoringModel(transformers.BertLMHeadModel(config))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: transformers.GPTJForCausalLM(transformers.GPTJConfig(
            vocab_size=331, n_embd=48, n_layer=2, n_head=4, n_positions=128, rotary_dim=8)), "attention interface"),
        (lambda: transformers.MixtralForCausalLM(transformers.MixtralConfig(
            **SHAPE, intermediate_size=64, num_key_value_heads=2, num_local_experts=4)), "experts"),
        (lambda: transformers.Phi3ForCausalLM(transformers.Phi3Config(
            **SHAPE, intermediate_size=96, max_position_embeddings=128, original_max_position_embeddings=64,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
            rope_scaling={"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [4.0] * 6})), "rotary"),
    ],
    ids=["gptj", "mixtral", "phi3-longrope"],
)  # fmt: skip
def test_what_cannot_be_packed_runs_alone(make, reason: str, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model = ScoringModel(make().float())
    assert not model.packed
    assert reason in caplog.text
    ids = torch.arange(30)
    together = model.hidden(ids, [(0, 10), (10, 30)])
    assert torch.equal(together[:10], model.hidden(ids[:10], [(0, 10)]))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_packed_families_pass_every_layer_through_our_attention(family: str) -> None:
    assert ScoringModel(families.make_model(family)).packed


@pytest.mark.parametrize("device", ["cpuu", "tpu:x"])
def test_unknown_devices_are_named(model_folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match="--device"):
        load(model_folder, device=device)


def test_folders_that_are_no_models(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        model_folder_of(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        model_folder_of(tmp_path)


def model_folder_of(path: Path) -> Path:
    return model_files.model_folder(ModelOptions(str(path)))


def test_the_fingerprint_is_of_the_weights(tmp_path: Path, model_folder: Path) -> None:
    again = small.make_model_folder(tmp_path / "again")
    other = small.make_model_folder(tmp_path / "other", seed=1)
    assert fingerprint(again) == fingerprint(model_folder) != fingerprint(other)
