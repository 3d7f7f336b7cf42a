"""The application: routes of the API, the page, and what other modules of the package mount.

A route checks what it is asked, calls the :class:`~clamr_cli.serve.library.Library` in one of its threads, and sends
the record that ``--json`` prints. Errors become an object with ``error`` and ``hint``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Final

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.staticfiles import StaticFiles

from clamr_cli import __version__, terms
from clamr_cli.errors import ClamrError, EncoderMismatch, StoreError, UnknownVideo, UsageError
from clamr_cli.extract import subtitles
from clamr_cli.serve import playback
from clamr_cli.serve.library import Busy, Library, video_of
from clamr_cli.serve.security import Access, Guard, Limits
from clamr_cli.text import escape_json, parse_time
from clamr_cli.types import Scoring, SearchOptions

_PAGE: Final = Path(__file__).parent / "page"
_LONGEST_QUERY: Final = 1000
_MOST: Final = 20
"""Words of one kind, such as negations, in a search."""

_STATUS: Final[tuple[tuple[type[ClamrError], int], ...]] = (
    (Busy, 503), (UnknownVideo, 404), (UsageError, 400), (EncoderMismatch, 409), (StoreError, 503),
)  # fmt: skip

Text = Annotated[str, Field(max_length=_LONGEST_QUERY)]
Word = Annotated[str, Field(max_length=200)]
VideoId = Annotated[str, InPath(max_length=128, description="Id of a video.")]
MomentId = Annotated[str, InPath(max_length=160, description="Id of a moment; its # is written %23.")]
Question = Annotated[str, Query(alias="q", max_length=_LONGEST_QUERY, description="The query.")]


class SearchQuery(BaseModel):
    """The parameters of a search, named as the options of ``clamr search``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    q: Text = Field(description='The query; what is in "quotation marks" must stand there as written.')
    also: list[Text] = Field([], alias="and", max_length=_MOST, description="Must be answered too.")
    without: list[Text] = Field([], alias="not", max_length=_MOST, description="Leave out what answers this.")
    modality: list[Word] = Field([], max_length=_MOST, description="Only video, speech, ocr or metadata.")
    weight: list[Word] = Field([], max_length=_MOST, description="Count a modality more or less: speech=2.")
    since: Word | None = Field(None, description="Dated 2024-05-17, 2024-05, 2w (ago), yesterday or later.")
    until: Word | None = Field(None, description="Dated then or earlier.")
    longer: Word | None = Field(None, description="Videos of at least 90, 1:30, 2m.")
    shorter: Word | None = Field(None, description="Videos of at most that.")
    path: Text | None = Field(None, description="Only files whose path matches this glob.")
    language: Word | None = Field(None, description="Only videos in it: en, English.")
    limit: int | None = Field(None, ge=1, le=1000, description="Results.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Pass over the first results.")
    moments: bool = Field(False, description="All good moments, not one of each video.")
    scoring: Scoring | None = Field(None, description="How similarities become a score.")
    floor: float | None = Field(None, allow_inf_nan=False, description="Score per query vector of weak hits.")
    verbatim: bool = Field(False, description="Search as written, misspelt words too.")
    exact: bool = Field(False, description="Compare with everything, however large the library is.")
    hybrid: bool = Field(False, description="With the approximate index, also add full-text matches.")

    def options(self, library: Library) -> SearchOptions:
        """The options, the settings beneath."""
        return library.options(
            also=self.also,
            without=self.without,
            modality=self.modality,
            weight=self.weight,
            since_day=self.since,
            until_day=self.until,
            longer=None if self.longer is None else parse_time(self.longer),
            shorter=None if self.shorter is None else parse_time(self.shorter),
            path=self.path,
            language_code=None if self.language is None else terms.language(self.language),
            limit=self.limit,
            offset=self.offset,
            moments=self.moments,
            scoring=self.scoring,
            floor=self.floor,
            exact=self.exact,
            hybrid=self.hybrid,
        )


def as_json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; text out of videos is escaped as ``--json`` does."""
    body = escape_json(json.dumps(content, ensure_ascii=False, allow_nan=False))
    return Response(body, status, headers, "application/json")


def create_app(library: Library, access: Access, limits: Limits | None = None) -> FastAPI:
    """The application, behind its guard."""
    app = FastAPI(
        title="clamr",
        version=__version__,
        description="Search a folder of videos by what is shown, said, written on screen and in their metadata.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Guard, access=access, limits=limits)
    _handle_errors(app)
    app.include_router(playback.router(library))

    @app.get("/healthz", tags=["server"])
    async def health() -> Response:
        """Say that the server runs."""
        return as_json({"ok": True})

    @app.get("/api/v1/search", tags=["search"])
    async def search(query: Annotated[SearchQuery, Query()]) -> Response:
        """Find the moments that match a query, and why."""
        options = query.options(library)
        answer = await library.call(library.search, query.q, options, verbatim=query.verbatim)
        return as_json(answer.record())

    @app.get("/api/v1/moments/{moment_id}/explain", tags=["search"])
    async def explain(moment_id: MomentId, q: Question) -> Response:
        """Say why the video of a moment ranks where it does."""
        return as_json(await library.call(library.explain, video_of(moment_id), q, library.options()))

    @app.get("/api/v1/videos", tags=["videos"])
    async def videos(
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        path: Annotated[str | None, Query(max_length=_LONGEST_QUERY)] = None,
    ) -> Response:
        """List the videos of the index."""
        rows = await library.call(library.videos, path)
        return as_json({"total": len(rows), "offset": offset, "videos": rows[offset : offset + limit]})

    @app.get("/api/v1/videos/{video_id}", tags=["videos"])
    async def video(video_id: VideoId) -> Response:
        """Show everything the index knows of a video."""
        return as_json(await library.call(library.video, video_id))

    @app.get("/api/v1/videos/{video_id}/timeline", tags=["videos"])
    async def timeline(video_id: VideoId) -> Response:
        """Show what the index knows of a video in time order."""
        return as_json(await library.call(library.timeline, video_id))

    @app.get("/api/v1/videos/{video_id}/transcript.{form}", tags=["videos"])
    async def transcript(video_id: VideoId, form: str) -> Response:
        """Show what is said in a video as subtitles (vtt, srt) or plain text (txt)."""
        writers = {"vtt": subtitles.as_vtt, "srt": subtitles.as_srt, "txt": subtitles.as_text}
        if form not in writers:
            raise HTTPException(404)
        segments = await library.call(library.transcript, video_id)
        kind = "text/vtt" if form == "vtt" else "text/plain"
        return Response(writers[form](segments).encode("utf-8", "replace"), media_type=f"{kind}; charset=utf-8")

    @app.get("/api/v1/thumbnails/{video_id}", tags=["videos"])
    async def thumbnail(
        request: Request, video_id: VideoId, t: Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    ) -> Response:
        """Send the stored picture nearest to a second of a video."""
        jpeg = await library.call(library.thumbnail, video_id, t)
        tag = f'"{hashlib.blake2b(jpeg, digest_size=12).hexdigest()}"'
        headers = {"etag": tag, "cache-control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(jpeg, headers=headers, media_type="image/jpeg")

    @app.get("/api/v1/status", tags=["server"])
    async def status() -> Response:
        """Say what the index holds."""
        return as_json(await library.call(library.status))

    app.mount("/", StaticFiles(directory=_PAGE, html=True), name="page")
    return app


def _handle_errors(app: FastAPI) -> None:
    """Make every error an object with ``error`` and ``hint``."""

    @app.exception_handler(ClamrError)
    async def clamr_error(_: Request, error: ClamrError) -> Response:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        headers = {"retry-after": str(Busy.seconds)} if status == 503 else None
        return as_json({"error": _as_parameters(error.what), "hint": _as_parameters(error.hint)}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:])
        return as_json({"error": f"invalid {name}: {first['msg']}", "hint": "see /docs"}, 422)

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> Response:
        what = "there is nothing here" if error.status_code == 404 else str(error.detail)
        return as_json({"error": what, "hint": "see /docs"}, error.status_code, dict(error.headers or {}))


def _as_parameters(text: str) -> str:
    """A message about options as one about parameters of the API."""
    import re

    return re.sub(r"(?<![\w-])--(?=[a-z])", "", text)
