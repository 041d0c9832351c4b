"""From labels to candidates: tokens as the template lays them out, lengths, and priors after a neutral prompt."""

from __future__ import annotations

import numpy as np
import pytest

from kamerton.data.encode.single_example import renderer
from kamerton.data.example import Message
from kamerton.model.tiny import tiny_tokenizer
from kamerton.score.labels.question import Answer, Question
from kamerton.score.labels.tokens import LabelTokens, calibrated

LABELS = ["yes", "no", "żółw"]
WITH_TRIMMING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] | trim) + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("template", [None, WITH_TRIMMING, ""])
@pytest.mark.parametrize("prompt", ["a question", (Message("system", "be brief"), Message("user", "a question"))])
def test_a_label_is_the_completion_up_to_its_end_of_turn(
    template: str | None, prompt: str | tuple[Message, ...]
) -> None:
    tokenizer = tiny_tokenizer()
    if template is not None:
        tokenizer.chat_template = template or None
    if template == "" and not isinstance(prompt, str):
        return  # without a template there are no chats
    result = LabelTokens(tokenizer, LABELS)(prompt)
    for label, tokens in zip(LABELS, result.trie.labels, strict=True):
        _, whole = renderer(tokenizer)(prompt, label)
        assert tokens.tolist() == whole[: whole.index(tokenizer.eos_token_id) + 1]
        assert tokenizer.decode(tokens) == f"{label}<|im_end|>"


def test_prompts_of_one_kind_share_their_candidates() -> None:
    tokens = LabelTokens(tiny_tokenizer(), LABELS)
    assert tokens("one") is tokens("another")
    assert tokens((Message("user", "one"),)) is tokens("one")  # other turns, the same tokens


@pytest.mark.parametrize(("normalization", "lengths"), [("sum", [1, 1, 1]), ("token", [4, 3, 8]), ("byte", [3, 2, 7])])
def test_lengths_that_log_probabilities_are_divided_by(normalization: str, lengths: list[int]) -> None:
    result = LabelTokens(tiny_tokenizer(), LABELS, normalization)("a question")  # type: ignore[arg-type]
    assert result.length.tolist() == lengths
    assert result.judge(np.array([-6.0, -6.0, -6.0])).tolist() == pytest.approx([-6 / length for length in lengths])


def test_priors_are_taken_from_the_neutral_prompt_asked_once() -> None:
    tokens = LabelTokens(tiny_tokenizer(), LABELS)
    system = Message("system", "be brief")
    prompts = ["one", "two", (system, Message("user", "three")), (system, Message("user", "x"), Message("user", "y"))]
    neutral = [tokens.without_content(prompt, "N/A") for prompt in prompts]  # type: ignore[arg-type]
    inputs: list[Question] = []

    def ask(questions: list[Question]) -> list[Answer]:
        inputs.extend(questions)
        return [Answer(0.0, 1, 0, np.array([-1.0, -2.0, -3.0]) * (i + 1), 0) for i in range(len(questions))]

    row = np.array([5, 6, 7], dtype=np.int32)
    questions = [Question(row, np.arange(3) >= 2, tokens(prompt)) for prompt in prompts]  # type: ignore[arg-type]
    result = calibrated(questions, neutral, ask)
    decoded = [tiny_tokenizer().decode(question.prompt) for question in inputs]
    assert decoded == [
        "<|im_start|>user\nN/A<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nN/A<|im_end|>\n<|im_start|>assistant\n",
    ]
    priors = [question.candidates.prior.tolist() for question in result if question.candidates is not None]
    assert priors == [[-1, -2, -3], [-1, -2, -3], [-2, -4, -6], [-2, -4, -6]]
    assert result[0].candidates is result[1].candidates
