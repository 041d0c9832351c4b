"""What a client may ask of a fine-tuning job. Whatever would not be honoured is refused, never left out silently."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
Key = Annotated[str, Field(max_length=64)]
Value = Annotated[str, Field(max_length=512)]
Name = Annotated[str, Field(max_length=512)]  # longer than any; refusals repeat it
Number = TypeVar("Number", int, float)
EPOCHS = 3  # where their number is left to the server
MAX_EPOCHS, MAX_BATCH, MAX_METADATA = 1000, 4096, 16


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, given: Any) -> Any:
        """JSON may escape half of a character pair, which no response could hold."""
        try:
            json.dumps(given if isinstance(given, dict) else None, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character pair is no text") from None
        return given


class Hyperparameters(_Asked):
    """`auto` is 3 epochs, and the batch size and the learning rate (which the multiplier is of) of `kamerton train`."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=MAX_BATCH)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(ge=1e-6, le=1e4, allow_inf_nan=False)] = "auto"


class Supervised(_Asked):
    """The one method of training there is."""

    hyperparameters: Hyperparameters | None = None


class Method(_Asked):
    """How to train."""

    type: Literal["supervised"]
    supervised: Supervised | None = None


class JobRequest(_Asked):
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
    def chosen(self) -> Hyperparameters:
        """The hyperparameters, wherever they are given."""
        method = self.method.supervised if self.method else None
        return (method.hyperparameters if method else None) or self.hyperparameters or Hyperparameters()


def number(value: Auto | Number) -> Number | None:
    """None where it is left to the server."""
    return None if isinstance(value, str) else value
