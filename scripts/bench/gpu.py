"""Tokens per second and MFU of a Llama of 1.2 billion random weights on one GPU, next to TRL on the same card.

    python scripts/bench/gpu.py --trl PYTHON [--steps 30] [--repeats 3] [--sides kamerton,trl-packed] [--work FOLDER]

Every weight is trained, float32 weights under bfloat16 autocast, packed rows, compiled layers. `--trl` is the Python of
an environment with TRL (`scripts/bench/peers.sh` makes one; its fastest sides also need flash-attn and liger-kernel).
Rows are random texts of 128 to 896 bytes, a token each, half of them prompt; a step has about 16,384 tokens, a pass
8,192, a packed row of TRL 4,096. Every measurement is a process of its own; the first steps, which compile, are not
counted.

`--device cpu --shape tiny --step-tokens 4096 --no-compile --attn sdpa` shows on any machine that everything runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import statistics
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WARM = 3  # first steps: compiling, allocation
MEAN = 512  # tokens of a row
SHAPES: dict[str, dict[str, int]] = {
    "1b": {"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8},  # Llama 3.2 1B's
    "tiny": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2},
}  # fmt: skip


def main() -> None:
    options = parse()
    files = {"model": write_model(options), "rows": write_rows(options)}
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    for repeat in range(options.repeats):
        turn = repeat % len(options.sides)
        for side in options.sides[turn:] + options.sides[:turn]:
            results[side].append(measure(side, repeat, files, options))
            print(side, results[side][-1], flush=True)
    print(render(results, Path(files["rows"]), options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", help="the Python of an environment with TRL; without it Kamerton alone")
    parser.add_argument("--shape", choices=list(SHAPES), default="1b")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--step-tokens", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sides", type=lambda text: text.split(","))
    parser.add_argument("--attn", default="flash_attention_2", help="attention of TRL's sides")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("~/.cache/kamerton/bench-gpu").expanduser())
    options = parser.parse_args()
    options.sides = options.sides or list(sides(options))
    if unknown := set(options.sides) - set(sides(options)):
        parser.error(f"no such side here: {', '.join(unknown)}; there are {', '.join(sides(options))}")
    if options.steps <= WARM:
        parser.error(f"--steps must be more than {WARM}")
    return options


def sides(options: argparse.Namespace) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Script, Python and the job's own keys of each side."""
    a_pass, row, compiled = options.step_tokens // 2, options.step_tokens // 4, not options.no_compile
    ours = ["trainer.precision=bf16-mixed", f"model.compile={str(compiled).lower()}", f"batch.max_tokens={a_pass}"]
    ours += ["model.export=null", "callbacks.progress_bar=null"]
    jobs: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for packing in ("packed", "tree"):
        flags: dict[str, Any] = {"overrides": [*ours, f"batch.cut={packing}"]}
        job = {"batch": options.step_tokens // MEAN, "trainer": options.device, "save": False, "flags": flags}
        jobs[f"kamerton-{packing}"] = ("with_kamerton.py", sys.executable, job)
    flags = {
        "use_cpu": options.device == "cpu",
        "bf16": True,
        "max_length": row,
        "packing": True,
        "gradient_accumulation_steps": options.step_tokens // a_pass,
        "gradient_checkpointing": False,
        "torch_compile": compiled,
    }
    for name, liger in {"trl-packed": False, "trl-packed-liger": True}.items():
        job = {"batch": a_pass // row, "load": {"attn_implementation": options.attn}, "save": False}
        job["flags"] = flags | {"use_liger_kernel": liger}
        if options.trl and (options.device == "gpu" or not liger):
            jobs[name] = ("with_trl.py", options.trl, job)
    return jobs


def write_model(options: argparse.Namespace) -> str:
    """A Llama of random weights with a byte tokenizer, in Hugging Face format; made once."""
    folder = options.work / f"llama-{options.shape}"
    if not (folder / "tokenizer.json").exists():
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from kamerton.model.tiny import tiny_tokenizer

        torch.manual_seed(0)
        special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        config = LlamaConfig(
            **SHAPES[options.shape], **special, max_position_embeddings=4096, tie_word_embeddings=True, dtype="float32"
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def write_rows(options: argparse.Namespace) -> str:
    """Random texts that fill so many steps, always the same ones."""
    draw = random.Random(0)

    def text() -> str:
        return "".join(draw.choices(string.ascii_lowercase + " ", k=draw.randint(MEAN // 8, MEAN * 7 // 8)))

    rows = [{"prompt": text(), "completion": text()} for _ in range(options.steps * options.step_tokens // MEAN)]
    path = options.work / f"rows-{options.steps}-{options.step_tokens}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def measure(side: str, repeat: int, files: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """One epoch of one side in its own process."""
    script, python, own = sides(options)[side]
    out = options.work / "out" / side
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "job.json").write_text(
        json.dumps({"kind": "full", "lr": 1e-5, "seed": repeat + 1, "out": str(out), **files, **own})
    )
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if python != sys.executable:
        environment.pop("PYTHONPATH", None)
    command = [python, "-W", "ignore", str(HERE / "sides" / script), str(out / "job.json")]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = done.stdout.decode(errors="replace")
    lines = [line for line in output.splitlines() if line.startswith("RESULT ")]
    if done.returncode or len(lines) != 1:
        raise SystemExit(f"{side} ended with {done.returncode}:\n{output[-4000:]}")
    shutil.rmtree(out)
    return figures(json.loads(lines[0].removeprefix("RESULT ")))


def figures(result: dict[str, Any]) -> dict[str, Any]:
    """Tokens and target tokens of a second, over the steps after the first ones."""
    ends, rows = result["ends"], result["rows"]
    share, seconds = (len(ends) - WARM) / len(ends), ends[-1] - ends[WARM - 1]
    return {
        "tokens_per_s": result["tokens"] * rows * share / seconds,
        "targets_per_s": result["targets"] * rows * share / seconds,
        "tokens": round(result["tokens"] * rows),
        "steps": len(ends),
        "first_s": ends[0] - result["begun"],
        "peak_gib": result.get("gpu_peak_mib", result["peak_mib"]) / 1024,
    }


def flops_of(result: dict[str, Any], shape: dict[str, int], context: float) -> float:
    """FLOP/s that the model itself asks for: 6 for a weight and token, 12·L·H·Q·T a token for attention.

    PaLM (Chowdhery et al. 2022), appendix B, with T the mean length that a token's row has, and the head counted on
    target tokens alone, for both sides: neither needs more.
    """
    hidden, heads = shape["hidden_size"], shape["num_attention_heads"]
    keys = hidden // heads * shape["num_key_value_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * shape["intermediate_size"]
    body = shape["num_hidden_layers"] * (6 * layer + 12 * hidden * context)
    return body * result["tokens_per_s"] + 6 * shape["vocab_size"] * hidden * result["targets_per_s"]  # type: ignore[no-any-return]


def render(results: dict[str, list[dict[str, Any]]], rows: Path, options: argparse.Namespace) -> str:
    """Medians with [least, most], as Markdown."""
    import torch

    from kamerton.train.throughput import peak_flops

    device = torch.device("cuda" if options.device == "gpu" else "cpu")
    peak = peak_flops(device, half=True)
    name = torch.cuda.get_device_name() if options.device == "gpu" else "CPU"
    lengths = [len(row["prompt"]) + len(row["completion"]) for row in map(json.loads, rows.read_text().splitlines())]
    context = sum(size * size for size in lengths) / sum(lengths)
    ours = "liger-kernel " + ("installed" if importlib.util.find_spec("liger_kernel") else "not installed")
    lines = [f"{name}, torch {torch.__version__}, {ours} for Kamerton", ""]
    lines += [
        "| side | tokens/s | MFU | peak memory, GiB | first step, s | steps |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for side, repeats in results.items():
        speeds = sorted(result["tokens_per_s"] for result in repeats)
        shares = [flops_of(result, SHAPES[options.shape], context) / peak for result in repeats] if peak else []
        peak_memory, first_step = max(result["peak_gib"] for result in repeats), repeats[0]["first_s"]
        lines.append(
            f"| {side} | {statistics.median(speeds):,.0f} [{speeds[0]:,.0f}, {speeds[-1]:,.0f}] "
            f"| {f'{statistics.median(shares):.3f}' if shares else 'unknown card'} "
            f"| {peak_memory:.1f} | {first_step:.0f} | {repeats[0]['steps']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
