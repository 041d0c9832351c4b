"""`model.adapter`: the adapter of a run or of a folder, merged into the model before anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from kamerton.config.compose import compose_values
from kamerton.config.training import check_training
from kamerton.errors import UserError
from kamerton.model.export import BASE
from kamerton.model.tiny import tiny_model
from kamerton.run.adapters import base_of_adapter, find_adapter, first_adapter_faults, merge_first


def write_adapter(folder: Path, base: str = "tiny") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return folder


def test_the_adapter_of_a_run_is_in_its_model_folder(tmp_path: Path) -> None:
    run, folder = tmp_path / "run", write_adapter(tmp_path / "plain")
    write_adapter(run / "model")
    assert find_adapter(str(run)) == run / "model" / "adapter_config.json"
    assert find_adapter(str(folder)) == folder / "adapter_config.json"
    assert first_adapter_faults(str(run), "tiny") == first_adapter_faults(str(folder), "tiny") == []


def test_a_folder_without_an_adapter_is_a_fault(tmp_path: Path) -> None:
    (fault,) = first_adapter_faults(str(tmp_path / "nothing"), "tiny")
    assert "there is no adapter in" in fault.message
    assert fault.column == "model.adapter"
    whole = tmp_path / "whole" / "model"
    whole.mkdir(parents=True)
    (whole / "config.json").write_text("{}")
    (fault,) = first_adapter_faults(str(tmp_path / "whole"), "tiny")
    assert f"set model.name={tmp_path / 'whole'}/model" in fault.fix


def test_the_adapter_of_another_model_names_the_setting(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", "other/model")
    (fault,) = first_adapter_faults(str(folder), "tiny")
    assert "was trained on other/model, and model.name is tiny" in fault.message
    assert fault.fix == "add model.name=other/model"
    assert first_adapter_faults(str(folder), "other/model") == []


def test_the_recorded_base_counts_where_the_adapter_names_a_cache_folder(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", str(tmp_path / "cache" / "gone"))
    (folder / BASE).write_text(json.dumps({"base": "tiny"}))
    assert base_of_adapter(folder / "adapter_config.json") == "tiny"
    assert first_adapter_faults(str(folder), "tiny") == []


def test_an_adapter_without_a_base_is_a_fault(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="does not name its base model"):
        first_adapter_faults(str(folder), "tiny")


def test_an_adapter_is_not_merged_into_four_bits() -> None:
    (fault,) = check_training(compose_values(["adapter=qlora", "model.adapter=outputs/a/b"]))
    assert fault.column == "model.adapter"
    assert "choose adapter=lora" in fault.fix


def test_the_merged_model_computes_what_the_adapter_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    adapted = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "a")
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        expected = adapted.eval()(input_ids=ids).logits
        merged = merge_first(tiny_model(), str(tmp_path / "a"))
        torch.testing.assert_close(merged.eval()(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    assert merged.train().training
    assert all(weight.requires_grad for weight in merged.parameters())
    assert not any("lora" in name for name, _ in merged.named_parameters())
