"""The one shape of errors, RFC 9457 ("problem details"): what every route answers when it cannot answer."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

MEDIA = "application/problem+json"


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    where: str = Field(description="The parameter, or the place in the body", examples=["query: from"])
    what: str = Field(description="What was expected, and what came")


class Problem(BaseModel):
    """Why a request was not answered."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(ge=400, le=599, examples=[422])
    detail: str = Field(description="What is wrong, and what to do about it")
    instance: str = Field(description="The path that was asked for", examples=["/api/v1/metrics/footfall"])
    errors: list[Fault] = []


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    errors: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer that says what is wrong."""
    body = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, instance=request.url.path, errors=list(errors)
    )
    return JSONResponse(body.model_dump(), status, media_type=MEDIA, headers=dict(headers or {}))


def problems(*more: int) -> dict[int | str, dict[str, Any]]:  # Any: OpenAPI
    """The errors of a route for OpenAPI: those that every route may answer, and `more`."""
    always = (401, 403, 422, 429, 500, 503)
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*always, *more})
    }
