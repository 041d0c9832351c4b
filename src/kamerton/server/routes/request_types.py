"""Types of the fields of requests: texts, limits, and parameters that are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WrapValidator
from pydantic_core import PydanticCustomError


def _unicode(text: str) -> str:
    """Refuse a lone surrogate, which JSON can escape but UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("invalid_text", "contains half of a surrogate pair, which is no character") from None
    return text


def _refuse_unless_none(value: Any, _: Any) -> None:
    if value is not None:
        raise PydanticCustomError("unsupported", "is not supported here: leave it out")


Text = Annotated[str, AfterValidator(_unicode)]
Unsupported = Annotated[None, WrapValidator(_refuse_unless_none)]
Name = Annotated[str, Field(max_length=512)]  # bounded, since error messages repeat it


class Strict(BaseModel):
    """A part of a request without unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid")
