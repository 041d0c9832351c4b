"""Request schema of `POST /v1/fine_tuning/jobs`. Unsupported parameters are rejected, not ignored."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Key = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]
Name = Annotated[str, Field(max_length=512)]  # bounded, since error messages repeat it
Number = TypeVar("Number", int, float)
EPOCHS = 3  # default of `n_epochs`
MAX_EPOCHS, MAX_BATCH, MAX_METADATA = 1000, 4096, 16
MIN_COMPUTE, MAX_COMPUTE = 0.25, 8.0  # 2 to 64 completions of a prompt


class StrictBody(BaseModel):
    """A part of a request without unknown fields."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _refuse_surrogates(cls, values: Any) -> Any:
        """Refuse lone surrogates, which JSON can escape, but no response could contain."""
        try:
            json.dumps(values if isinstance(values, dict) else None, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character pair is no text") from None
        return values


class Hyperparameters(StrictBody):
    """`auto` means 3 epochs, and the batch size and learning rate of `kamerton train`, which the multiplier scales."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=MAX_BATCH)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(ge=1e-6, le=1e4, allow_inf_nan=False)] = "auto"


class DpoHyperparameters(Hyperparameters):
    """`beta` is the strength of the pull to the reference model; `auto` means that of `objective=dpo`."""

    beta: Auto | Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)] = "auto"


class Supervised(StrictBody):
    """Learn the answers."""

    hyperparameters: Hyperparameters | None = None


class Dpo(StrictBody):
    """Learn which of two answers is better (direct preference optimisation)."""

    hyperparameters: DpoHyperparameters | None = None


class ReinforcementHyperparameters(Hyperparameters):
    """`compute_multiplier` times 8 completions are generated for each prompt of a step.

    `eval_interval` is the number of steps between validations (`auto`: one after each epoch); one answer of each prompt
    is graded.
    """

    compute_multiplier: Auto | Annotated[float, Field(ge=MIN_COMPUTE, le=MAX_COMPUTE, allow_inf_nan=False)] = "auto"
    eval_interval: Auto | Annotated[int, Field(ge=1, le=1_000_000)] = "auto"
    eval_samples: Literal["auto", 1] = "auto"
    reasoning_effort: Literal["default"] | None = None


class Reinforcement(StrictBody):
    """Learn from the grades of generated answers (`kamerton.objective.graders`)."""

    grader: dict[str, Any]
    hyperparameters: ReinforcementHyperparameters | None = None


class Method(StrictBody):
    """The training method; only the settings of `type` may be given."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None

    @model_validator(mode="after")
    def _refuse_settings_of_others(self) -> Method:
        names = ("supervised", "dpo", "reinforcement")
        others = [name for name in names if name != self.type and getattr(self, name) is not None]
        if others:
            raise ValueError(f"the type is {self.type}, and the settings are of {others[0]}")
        return self


class JobRequest(StrictBody):
    """The body of `POST /v1/fine_tuning/jobs`."""

    model: Name
    training_file: Name
    validation_file: Name | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Annotated[dict[Key, Value], Field(max_length=MAX_METADATA)] | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def kind(self) -> str:
        """The type of the method."""
        return "supervised" if self.method is None else self.method.type

    @property
    def all_hyperparameters(self) -> Hyperparameters:
        """The hyperparameters, given at either of the two places of OpenAI's API."""
        settings = getattr(self.method, self.kind, None)
        given = None if settings is None else settings.hyperparameters
        if self.kind == "dpo":
            return given or DpoHyperparameters()
        if self.kind == "reinforcement":
            return given or ReinforcementHyperparameters()
        return given or self.hyperparameters or Hyperparameters()


def number(value: Auto | Number) -> Number | None:
    """Return the number, or None for `auto`."""
    return None if isinstance(value, str) else value
