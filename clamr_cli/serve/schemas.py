"""Answers of the API as models, made from the columns of the records: they describe the API in OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import GenericAlias
from typing import Any, Final, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, create_model

from clamr_cli.records import EXPLANATION, FILE, FRAME, HIT, STATUS, TIMELINE, VIDEO, VIDEO_MORE, Column

_create: Any = create_model
"""Untyped: no checker follows models that are made of columns."""

_COVERAGE: Final[dict[str, Any]] = {
    "searched": (int | None, Field(None, description="Videos that answer; only where that is not all.")),
    "of": (int | None, Field(None, description="Videos that should.")),
}


def _list(model: Any) -> Any:  # noqa: ANN401
    """The type of a list of a model's objects."""
    return GenericAlias(list, (model,))


@cache
def _model(name: str, columns: tuple[Column, ...]) -> Any:  # noqa: ANN401
    """The model of a record's JSON objects."""
    keys = {column.name: column for column in columns if column.json}
    return _create(name, **_fields(name, tuple(keys.values())))


def _fields(name: str, columns: Sequence[Column]) -> dict[str, Any]:
    return {
        column.name: (_kind(f"{name}{column.name.title().replace('_', '')}", column), Field(description=column.about))
        for column in columns
    }


def _kind(name: str, column: Column) -> Any:  # noqa: ANN401
    """The type of a column's value."""
    if not column.of:
        return column.kind
    model = _model(name, tuple(column.of))
    return (
        _list(model)
        if column.kind is list
        else GenericAlias(dict, (str, model))
        if column.kind is dict
        else model | None
    )


Hit = _create("Hit", __base__=_model("HitRecord", HIT), **_COVERAGE)
Answer = _create(
    "Answer",
    query=(str, Field(description="The query as it was searched for.")),
    corrections=(dict[str, str], Field(description="Misspelt words, and what was searched for instead.")),
    hits=(_list(Hit), Field(description="Best first.")),
    weak=(bool, Field(description="True if all hits are weak: probably nothing here answers.")),
    reason=(str, Field(description="Why nothing was found.")),
    indexing=(bool, Field(description="True while the index is being written: more may be found later.")),
    notes=(list[str], Field(description="What people should know of the answer.")),
    **_COVERAGE,
)
Explanation = _create("Explanation", __base__=_model("ExplanationRecord", EXPLANATION), **_COVERAGE)
Files = _create(
    "Files",
    total=(int, Field(description="Files that match.")),
    offset=(int, Field(description="Files that were passed over.")),
    videos=(_list(_model("File", FILE)), Field(description="Files of this page, by path.")),
)
Video = _create(
    "Video",
    **_fields("Video", (*VIDEO, VIDEO_MORE[0])),
    **{column.name: (column.kind | None, Field(None, description=column.about)) for column in VIDEO_MORE[1:]},
)
Timeline = _model("Timeline", TIMELINE)
Status = _model("Status", STATUS)
Frames = _create(
    "Frames",
    video_id=(str, Field(description="Id of the video.")),
    frames=(
        _list(_model("Frame", tuple(column for column in FRAME if column.name not in ("file", "clip")))),
        Field(description="Best first."),
    ),
)


class Job(BaseModel):
    """A job and how far it is."""

    id: str
    kind: Literal["index", "cut", "frames"]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    created: float = Field(description="Seconds since 1970.")
    done: float = Field(description="The part of the work that is done, from 0 to 1.")
    left: float | None = Field(description="Seconds that are probably left.")
    text: str
    error: str
    clip: bool = Field(description="True if the clip can be fetched.")


class JobList(BaseModel):
    """The jobs, the newest first."""

    jobs: list[Job]


class IndexJob(BaseModel):
    """An index run of the known folders."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["index"]


class CutJob(BaseModel):
    """A clip of a video."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["cut"]
    video_id: str = Field(max_length=128)
    start: float = Field(ge=0, le=1e7, allow_inf_nan=False)
    end: float = Field(gt=0, le=1e7, allow_inf_nan=False)
    exact: bool = Field(False, description="Encode anew instead of copying from the keyframe before.")


class FramesJob(BaseModel):
    """The preparation of a video for questions about its frames."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["frames"]
    video_id: str = Field(max_length=128)


class Picture(BaseModel):
    """A picture to look for."""

    model_config = ConfigDict(extra="forbid")

    picture: Base64Bytes = Field(description="The content of a JPEG, PNG or WebP file in base64.")


class Health(BaseModel):
    """Sign of life."""

    ok: bool


class Error(BaseModel):
    """A request that was not answered: what is wrong, and what to do."""

    error: str
    hint: str
