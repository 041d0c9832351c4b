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


class _Strict(BaseModel):
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


class Hyperparameters(_Strict):
    """`auto` means 3 epochs, and the batch size and learning rate of `kamerton train`, which the multiplier scales."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=MAX_EPOCHS)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=MAX_BATCH)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(ge=1e-6, le=1e4, allow_inf_nan=False)] = "auto"


class Supervised(_Strict):
    """The only supported training method."""

    hyperparameters: Hyperparameters | None = None


class Method(_Strict):
    """The training method."""

    type: Literal["supervised"]
    supervised: Supervised | None = None


class JobRequest(_Strict):
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
    def all_hyperparameters(self) -> Hyperparameters:
        """The hyperparameters, given at either of the two places of OpenAI's API."""
        method = self.method.supervised if self.method else None
        return (method.hyperparameters if method else None) or self.hyperparameters or Hyperparameters()


def number(value: Auto | Number) -> Number | None:
    """Return the number, or None for `auto`."""
    return None if isinstance(value, str) else value
