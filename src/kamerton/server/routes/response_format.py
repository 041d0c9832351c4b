"""The parameter `response_format` of a chat."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from kamerton.data.read.text import SURROGATES
from kamerton.server.errors import ApiError
from kamerton.server.routes.request_types import Strict, Text

_SCHEMA = "response_format.json_schema.schema"


class NamedSchema(Strict):
    """A JSON schema. Answers always fit it: `strict` has no effect."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Text | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Strict):
    """The format of an answer: text, any JSON object, or JSON that fits a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    def schema_of_content(self) -> dict[str, Any] | None:
        """Return the schema that the content has to fit; None for text. Raises `ApiError` for a missing schema."""
        if (self.json_schema is None) == (self.type == "json_schema"):
            param = "response_format.json_schema"
            if self.json_schema is None:
                raise ApiError(400, f"{param} is required", param, "missing_required_parameter")
            raise ApiError(400, f"{param} is only allowed with type 'json_schema'", param, "invalid_value")
        if self.json_schema is None:
            return {"type": "object"} if self.type == "json_object" else None
        if SURROGATES.search(json.dumps(self.json_schema.schema_, ensure_ascii=False)):
            message = f"{_SCHEMA} contains half of a surrogate pair, which is no character"
            raise ApiError(400, message, _SCHEMA, "invalid_value")
        return self.json_schema.schema_
