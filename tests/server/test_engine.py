"""Concurrent answers: each equals the answer alone, whatever starts, stops or fails beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamerton.server.generation.engine import Engine
from kamerton.server.generation.model_cache import Models
from support.tuned import answers_of

Message = dict[str, Any]
PROMPTS = ["a", "the cat 1", "who? " * 30, "🐈", "one two three", "x" * 200, "the owl", "Is it so?"]


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(most=2, context=1024)


def test_loading_a_model_is_announced_once(capsys: pytest.CaptureFixture[str]) -> None:
    models = Models(most=1, context=64)
    for _ in range(2):
        models.get("tiny", ())
    assert capsys.readouterr().err.splitlines() == ["loading the model tiny", "the model tiny is ready"]


class Conversation:
    """An engine and its messages by request."""

    def __init__(self, models: Models, most: int = 8) -> None:
        self.emitted: list[Message] = []
        self.engine = Engine(models, self.emitted.append, most)

    def ask(self, key: str, prompt: str, source: object = "tiny", **more: Any) -> None:
        own = {"temperature": 0.0, "top_p": 1.0, "seed": 7, "stop": [], "max_tokens": 20, "text": None}
        self.engine.add({"id": key, "source": str(source), "turns": [["user", prompt, 1.0]], **own, **more})

    def finish(self) -> None:
        while not self.engine.idle:
            self.engine.step()

    def of(self, key: str) -> list[Message]:
        return [item for item in self.emitted if item["id"] == key]

    def text(self, key: str) -> str:
        return "".join(item.get("text", "") for item in self.of(key))


def alone(models: Models, prompt: str, **more: Any) -> tuple[str, Message]:
    conversation = Conversation(models)
    conversation.ask("it", prompt, **more)
    conversation.finish()
    return conversation.text("it"), conversation.of("it")[-1]


def test_a_run_answers_what_its_evaluation_says(models: Models, tuned_run: Path) -> None:
    conversation = Conversation(models)
    expected = answers_of(tuned_run)
    for prompt in expected:
        conversation.ask(prompt, prompt, tuned_run, max_tokens=40)
    conversation.finish()
    answers = {prompt: (conversation.text(prompt), conversation.of(prompt)[-1]["finish"]) for prompt in expected}
    assert answers == expected
    assert any(len(text.encode()) > len(text) for text, _ in answers.values())  # the test can see split characters


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_what_else_runs(models: Models, tuned_run: Path, temperature: float) -> None:
    conversation = Conversation(models, most=5)
    how = [{"temperature": temperature, "seed": i, "max_tokens": 5 + 7 * (i % 4)} for i in range(len(PROMPTS))]
    sources = ["tiny" if i % 3 else tuned_run for i in range(len(PROMPTS))]
    for i, prompt in enumerate(PROMPTS):
        conversation.ask(str(i), prompt, sources[i], **how[i])
        for _ in range(i % 3):  # they come while others are answered
            conversation.engine.step()
    conversation.finish()
    for i, prompt in enumerate(PROMPTS):
        assert (conversation.text(str(i)), conversation.of(str(i))[-1]["finish"]) == (
            (text := alone(models, prompt, source=sources[i], **how[i]))[0],
            text[1]["finish"],
        )


def test_a_seed_decides_a_sampled_answer(models: Models) -> None:
    first, again, other = (alone(models, "say", temperature=1.5, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


def test_long_prompts_and_answers_do_not_block_others(models: Models) -> None:
    conversation = Conversation(models)
    conversation.ask("long answer", "tell", max_tokens=500)
    conversation.ask("long prompt", "x" * 900, max_tokens=1)
    conversation.ask("short", "hi", max_tokens=3)
    while not any(item.get("finish") for item in conversation.of("short")):
        conversation.engine.step()
    assert not any(item.get("finish") for item in conversation.of("long answer") + conversation.of("long prompt"))
    conversation.engine.cancel("long answer")
    conversation.finish()
    assert conversation.of("long prompt")[-1]["finish"] == "length"


def test_a_cancelled_answer_frees_its_place(models: Models) -> None:
    conversation = Conversation(models, most=1)
    conversation.ask("first", "tell", max_tokens=900)
    conversation.ask("second", "hi", max_tokens=2)
    conversation.ask("third", "ho", max_tokens=2)
    for _ in range(3):
        conversation.engine.step()
    assert not conversation.of("second")
    conversation.engine.cancel("first")
    conversation.engine.cancel("third")
    so_far = len(conversation.of("first"))
    conversation.finish()
    assert conversation.of("second")[-1]["finish"] == "length"
    assert (len(conversation.of("first")), conversation.of("third")) == (so_far, [])


def test_tenants_take_turns_and_one_without_an_answer_does_not_wait(models: Models) -> None:
    conversation = Conversation(models, most=2)
    for number in range(6):
        conversation.ask(f"ann{number}", "tell", max_tokens=8, tenant="ann")
    for _ in range(2):
        conversation.engine.step()
    conversation.ask("ben0", "hi", max_tokens=3, tenant="ben")
    conversation.ask("ben1", "hi", max_tokens=3, tenant="ben")
    conversation.engine.step()
    assert conversation.of("ben0")  # beyond the two of ann
    conversation.ask("cid0", "hi", max_tokens=3, tenant="cid")
    conversation.finish()
    order = [item["id"] for item in conversation.emitted if "prompt_tokens" in item]
    assert [key for key in order if key.startswith("ann")] == [f"ann{number}" for number in range(6)]
    assert order[:4] == ["ann0", "ann1", "ben0", "cid0"]
    assert order.index("ben1") < order.index("ann2")
    assert conversation.text("ann0") == conversation.text("ann5")


def test_no_more_than_twice_as_many_are_answered_at_once(models: Models) -> None:
    conversation = Conversation(models, most=1)
    for tenant in ("ann", "ben", "cid"):
        conversation.ask(tenant, "tell", max_tokens=50, tenant=tenant)
    while not any(item.get("finish") for item in conversation.emitted):
        conversation.engine.step()
        assert not conversation.of("cid")
    conversation.finish()
    assert conversation.of("cid")[-1]["finish"]


def test_a_failed_request_does_not_affect_others(models: Models, tuned_run: Path, tmp_path: Path) -> None:
    conversation = Conversation(models)
    conversation.ask("fine", "hi", max_tokens=4)
    conversation.ask("too long", "x" * 2000)
    conversation.ask("far too long", "x" * 1_000_000)
    conversation.ask("too much", "hi", max_tokens=1020)
    conversation.ask("empty", "", turns=None, text="")
    conversation.ask("no run", "hi", tmp_path / "nowhere")
    conversation.finish()
    assert conversation.of("fine")[-1]["finish"] == "length"
    refused = {
        key: conversation.of(key)[0]["error"] for key in ("too long", "far too long", "too much", "empty", "no run")
    }
    assert [error["status"] for error in refused.values()] == [400, 400, 400, 400, 500]
    for key in ("too long", "far too long", "too much"):
        assert (refused[key]["code"], refused[key]["param"]) == ("context_length_exceeded", "messages")
    assert refused["empty"]["param"] == "prompt"
    assert str(tmp_path) not in refused["no run"]["message"]


def test_without_max_tokens_an_answer_may_fill_the_context(models: Models) -> None:
    conversation = Conversation(Models(most=1, context=60))
    conversation.ask("it", "go on", max_tokens=None)
    conversation.finish()
    accepted, last = conversation.of("it")[0], conversation.of("it")[-1]
    assert accepted["prompt_tokens"] + last["tokens"] == 60 or last["finish"] == "stop"


def test_a_run_with_custom_code_is_not_loaded(models: Models, tuned_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "local" / "cd34"
    copy.mkdir(parents=True)
    text = (tuned_run / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("trust_remote_code: false", "trust_remote_code: true"))
    (copy / "run.json").write_text((tuned_run / "run.json").read_text())
    assert alone(models, "hi", source=copy)[1]["error"]["code"] == "model_not_loaded"


def test_lora_runs_share_the_weights_of_their_base(tuned_run: Path) -> None:
    models = Models(most=2, context=64)
    tuned, base = models.get(str(tuned_run), ()), models.get("tiny", ())
    weights = [model.get_input_embeddings().weight.data_ptr() for model in (tuned.model, base.model)]
    assert weights[0] == weights[1]
    assert models.get(str(tuned_run), ()) is tuned
    smaller = Models(most=1, context=64)
    first = smaller.get("tiny", ())
    assert smaller.get(str(tuned_run), {"tiny"}).key != first.key
    assert smaller.get("tiny", ()) is first  # it was in use, and stayed
