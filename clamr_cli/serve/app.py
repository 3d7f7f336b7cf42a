"""The application: routes of the API, the page, and what other modules of the package mount.

A route checks what it is asked, calls the :class:`~clamr_cli.serve.library.Library` in one of its threads, and sends
the record that ``--json`` prints. Errors become an object with ``error`` and ``hint``.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import FileResponse, StreamingResponse
from starlette.staticfiles import StaticFiles

from clamr_cli import __version__, terms
from clamr_cli.errors import (
    ClamrError,
    EncoderMismatch,
    MediaError,
    StoreError,
    UnknownVideo,
    Unreachable,
    UsageError,
)
from clamr_cli.extract import subtitles
from clamr_cli.serve import mcp, playback, schemas
from clamr_cli.serve.jobs import Job, Jobs
from clamr_cli.serve.library import Busy, Library, NotPrepared, as_parameters
from clamr_cli.serve.security import Access, Guard, Limits
from clamr_cli.text import escape_json, parse_time, shorten
from clamr_cli.types import Scoring, SearchOptions, Segment, Span

_PAGE: Final = Path(__file__).parent / "page"
_LONGEST_QUERY: Final = 1000
_MOST: Final = 20
"""Words of one kind, such as negations, in a search."""

_STATUS: Final[tuple[tuple[type[ClamrError], int], ...]] = (
    (Busy, 503), (UnknownVideo, 404), (NotPrepared, 409), (UsageError, 400), (EncoderMismatch, 409), (StoreError, 503),
    (Unreachable, 404), (MediaError, 422),
)  # fmt: skip

_ERRORS: Final = (400, 401, 403, 404, 408, 409, 413, 414, 415, 421, 422, 431, 503)
_TRANSCRIPTS: Final[Mapping[str, tuple[Callable[[Sequence[Segment]], str], str]]] = {
    "vtt": (subtitles.as_vtt, "text/vtt; charset=utf-8"),
    "srt": (subtitles.as_srt, "text/plain; charset=utf-8"),
    "txt": (subtitles.as_text, "text/plain; charset=utf-8"),
}

Text = Annotated[str, Field(max_length=_LONGEST_QUERY)]
Word = Annotated[str, Field(max_length=200)]
VideoId = Annotated[str, InPath(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="Id of a video.")]
MomentId = Annotated[
    str, InPath(pattern=r"^[0-9A-Za-z_-]{1,64}#[0-9]{1,9}$", description="Id of a moment; its # is written %23.")
]
JobId = Annotated[str, InPath(pattern=r"^[0-9A-Za-z_-]{1,64}$", description="Id of a job.")]


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
    tag: list[Word] = Field([], max_length=_MOST, description="Only videos with all of these tags of yours.")
    speaker: list[Word] = Field([], max_length=_MOST, description="Only where all of these speak: name or number.")
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
            tags=self.tag,
            speakers=self.speaker,
            language_code=None if self.language is None else terms.language(self.language),
            limit=self.limit,
            offset=self.offset,
            moments=self.moments,
            scoring=self.scoring,
            floor=self.floor,
            exact=self.exact,
            hybrid=self.hybrid,
        )


class PictureQuery(SearchQuery):
    """The parameters of a search by a picture, alone or with words."""

    q: Text = Field("", description="Words that weigh as much as the picture.")


def as_json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON; text out of videos is escaped as ``--json`` does."""
    body = escape_json(json.dumps(content, ensure_ascii=False, allow_nan=False))
    return Response(body, status, headers, "application/json")


def create_app(
    library: Library,
    access: Access,
    limits: Limits | None = None,
    *,
    command: Sequence[str] = (),
    report: Callable[[Exception], None] | None = None,
) -> FastAPI:
    """The application, behind its guard.

    Args:
        library: the index.
        access: who may ask.
        limits: of requests.
        command: the words that start clamr with the settings of this run, for jobs.
        report: called with errors that no code expected.
    """
    jobs = Jobs(library, command)
    tools, sessions = mcp.routes(mcp.create_server(library, jobs if access.write else None), access)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A thread that does not keep the process: nobody who ends the server waits for weights.
        threading.Thread(target=_warm, args=(library,), daemon=True).start()
        try:
            async with sessions.run():
                yield
        finally:
            await jobs.close()
            library.close()

    app = FastAPI(
        title="clamr",
        version=__version__,
        description="Search a folder of videos by what is shown, said, written on screen and in their metadata.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={code: {"model": schemas.Error} for code in _ERRORS},
    )
    app.state.jobs = jobs
    app.add_middleware(Guard, access=access, limits=limits, report=report)
    _handle_errors(app)
    for routes in (_search_routes(library), _video_routes(library), _server_routes(app, library)):
        app.include_router(routes)
    app.include_router(_job_routes(library, jobs, access))
    app.include_router(playback.router(library))
    app.router.routes.extend(tools)
    app.mount("/", StaticFiles(directory=_PAGE, html=True), name="page")
    return app


def _warm(library: Library) -> None:
    # Questions say what is wrong; this only makes the first one quick.
    with contextlib.suppress(ClamrError, OSError):
        library.warm()


def _search_routes(library: Library) -> APIRouter:
    """Questions to the whole index."""
    routes = APIRouter(prefix="/api/v1", tags=["search"])

    @routes.get("/search", response_model=schemas.Answer)
    async def search(query: Annotated[SearchQuery, Query()]) -> Response:
        """Find the moments that match a query, and why."""
        # Dates take a moment to be understood the first time.
        options = await library.call(query.options, library)
        answer = await library.call(library.search, query.q, options, verbatim=query.verbatim)
        return as_json(answer.record() | {"reason": as_parameters(answer.reason)})

    @routes.post("/search/picture", response_model=schemas.Answer)
    async def search_picture(query: Annotated[PictureQuery, Query()], body: schemas.Picture) -> Response:
        """Find the moments that are like a picture."""
        options = await library.call(query.options, library)
        answer = await library.call(library.search, query.q, options, verbatim=query.verbatim, picture=body.picture)
        return as_json(answer.record() | {"reason": as_parameters(answer.reason)})

    @routes.get("/moments/{moment_id}/explain", response_model=schemas.Explanation)
    async def explain(moment_id: MomentId, query: Annotated[SearchQuery, Query()]) -> Response:
        """Say why a moment answers, and why its video ranks where it does; takes the parameters of the search."""
        await library.call(library.span_of, moment_id)
        options, video_id = await library.call(query.options, library), moment_id.partition("#")[0]
        return as_json(await library.call(library.explain, video_id, query.q, options, moment_id=moment_id))

    @routes.get("/moments/{moment_id}/similar", response_model=schemas.Answer)
    async def similar(
        moment_id: MomentId,
        t: Annotated[float | None, Query(ge=0, le=1e9, description="A second of it, instead of all of it.")] = None,
        modality: Annotated[list[Word] | None, Query(max_length=_MOST)] = None,
        limit: Annotated[int | None, Query(ge=1, le=1000)] = None,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        moments: bool = False,
    ) -> Response:
        """Find the moments that are most like a moment."""
        video_id, span = await library.call(library.span_of, moment_id)
        span = span if t is None else Span(t, t)
        options = library.options(modality=modality, limit=limit, offset=offset, moments=moments)
        return as_json((await library.call(library.similar, video_id, span, options)).record())

    @routes.get("/frames", response_model=schemas.Frames)
    async def frames(
        q: Annotated[str, Query(max_length=_LONGEST_QUERY, description="The question.")],
        video: Annotated[str, Query(max_length=128, description="Id of a video.")],
        limit: Annotated[int, Query(ge=1, le=200)] = 32,
        modality: Annotated[list[Word] | None, Query(max_length=_MOST)] = None,
    ) -> Response:
        """Find the frames that answer a question inside one video that is prepared; a job can prepare it."""
        found = await library.call(library.frames, video, q, limit, terms.modalities(modality))
        return as_json({"video_id": video, "frames": found})

    return routes


def _video_routes(library: Library) -> APIRouter:
    """The videos of the index."""
    routes = APIRouter(prefix="/api/v1", tags=["videos"])

    @routes.get("/videos", response_model=schemas.Files)
    async def videos(
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        path: Annotated[str | None, Query(max_length=_LONGEST_QUERY, description="Only files that match it.")] = None,
    ) -> Response:
        """List the videos of the index, file by file."""
        rows = await library.call(library.videos, path)
        return as_json({"total": len(rows), "offset": offset, "videos": rows[offset : offset + limit]})

    @routes.get("/videos/{video_id}", response_model=schemas.Video, response_model_exclude_unset=True)
    async def video(video_id: VideoId) -> Response:
        """Show everything the index knows of a video."""
        return as_json(await library.call(library.video, video_id))

    @routes.get("/videos/{video_id}/timeline", response_model=schemas.Timeline)
    async def timeline(video_id: VideoId) -> Response:
        """Show what the index knows of a video in time order."""
        return as_json(await library.call(library.timeline, video_id))

    for form, (write_as, kind) in _TRANSCRIPTS.items():
        routes.add_api_route(
            f"/videos/{{video_id}}/transcript.{form}",
            _transcript(library, write_as, kind),
            response_class=Response,
            responses={200: {"content": {kind: {"schema": {"type": "string"}}}}},
            name=f"transcript_{form}",
        )

    @routes.get(
        "/thumbnails/{video_id}",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}, 304: {"description": "It has not changed."}},
    )
    async def thumbnail(
        request: Request, video_id: VideoId, t: Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    ) -> Response:
        """Send the stored picture nearest to a second of a video."""
        jpeg, digest = await library.call(library.thumbnail, video_id, t)
        headers = {"etag": f'"{digest}"', "cache-control": "private, max-age=3600"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(jpeg, headers=headers, media_type="image/jpeg")

    return routes


def _transcript(library: Library, write_as: Callable[[Sequence[Segment]], str], kind: str) -> Callable[..., Any]:
    """The route of what is said in a video, in one form."""

    async def transcript(video_id: VideoId) -> Response:
        """Show what is said in a video."""
        segments = await library.call(library.transcript, video_id)
        return Response(write_as(segments).encode("utf-8", "replace"), media_type=kind)

    return transcript


def _job_routes(library: Library, jobs: Jobs, access: Access) -> APIRouter:
    """Jobs and events."""
    routes = APIRouter(prefix="/api/v1", tags=["jobs"])

    def job_of(job_id: str) -> Job:
        job = jobs.get(job_id)
        if job is None:
            raise HTTPException(404, "there is no such job")
        return job

    @routes.get("/jobs", response_model=schemas.JobList)
    async def list_jobs() -> Response:
        """List the jobs, the newest first."""
        return as_json({"jobs": [job.record() for job in jobs.all()]})

    @routes.post("/jobs", response_model=schemas.Job, status_code=202)
    async def start(
        body: Annotated[schemas.IndexJob | schemas.CutJob | schemas.FramesJob, Body(discriminator="kind")],
    ) -> Response:
        """Index the known folders, cut a clip or prepare a video for /frames; only where the server has that right."""
        if not access.write:
            raise HTTPException(403, "jobs are not allowed; start the server with --allow-write")
        if isinstance(body, schemas.IndexJob):
            job = jobs.index()
        elif isinstance(body, schemas.FramesJob):
            await library.call(library.store.video, body.video_id)
            job = jobs.frames(body.video_id)
        else:
            video = await library.call(library.store.video, body.video_id)
            path = await library.call(library.path, body.video_id)
            job = jobs.cut(path, video.media, Span(body.start, max(body.start, body.end)), exact=body.exact)
        return as_json(job.record(), 202)

    @routes.get("/jobs/{job_id}", response_model=schemas.Job)
    async def show(job_id: JobId) -> Response:
        """Show a job."""
        return as_json(job_of(job_id).record())

    @routes.delete("/jobs/{job_id}", response_model=schemas.Job)
    async def cancel(job_id: JobId) -> Response:
        """End a job; forget one that has ended, with its clip."""
        if not access.write:
            raise HTTPException(403, "jobs are not allowed; start the server with --allow-write")
        job = job_of(job_id)
        jobs.cancel(job)
        return as_json(job.record())

    @routes.get(
        "/jobs/{job_id}/clip", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}}
    )
    async def clip(job_id: JobId) -> Response:
        """Send the clip that a job has cut."""
        job = job_of(job_id)
        if job.clip is None:
            raise HTTPException(404, "the job has no clip")
        return FileResponse(job.clip, media_type="application/octet-stream", filename=f"clip{job.clip.suffix}")

    @routes.get("/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
    async def follow() -> Response:
        """Follow the changes of jobs and of the index, as server-sent events."""
        messages = jobs.follow()
        # Before the answer begins, so that too many followers are refused.
        first = await anext(messages)

        async def stream() -> AsyncIterator[bytes]:
            async with contextlib.aclosing(messages):
                yield _event(first)
                async for message in messages:
                    yield _event(message)

        return StreamingResponse(stream(), media_type="text/event-stream")

    return routes


def _event(message: dict[str, Any]) -> bytes:
    """A server-sent event; a comment where there is nothing to say."""
    if not message:
        return b": still here\n\n"
    body = escape_json(json.dumps(message, ensure_ascii=False))
    return b"event: %s\ndata: %s\n\n" % (str(message["event"]).encode(), body)


def _server_routes(app: FastAPI, library: Library) -> APIRouter:
    """The server itself."""
    routes = APIRouter(tags=["server"])

    @routes.get("/healthz", response_model=schemas.Health)
    async def health() -> Response:
        """Say that the server runs."""
        return as_json({"ok": True})

    @routes.get("/api/v1/status", response_model=schemas.Status)
    async def status() -> Response:
        """Say what the index holds."""
        return as_json(await library.call(library.status))

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """Show the routes of the API as a page without scripts."""
        return Response(_docs_page(app.openapi()), media_type="text/html; charset=utf-8")

    return routes


def _docs_page(api: Mapping[str, Any]) -> str:
    """The description of the API as HTML."""
    parts = []
    for path, methods in api["paths"].items():
        for method, route in methods.items():
            rows = "".join(
                f"<tr><td><code>{escape(one['name'])}</code></td><td>{'required' if one['required'] else ''}</td>"
                f"<td>{escape(one.get('description') or one['schema'].get('description', ''))}</td></tr>"
                for one in route.get("parameters", ())
            )
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(route.get('description', ''))}</p>"
                + (f"<table>{rows}</table>" if rows else "")
            )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>The API of clamr</title>'
        '<h1>The API of clamr</h1><p>For programs: <a href="/openapi.json">openapi.json</a>, OpenAPI 3.1.</p>'
        + "".join(parts)
        + "</html>"
    )


def _handle_errors(app: FastAPI) -> None:
    """Make every error an object with ``error`` and ``hint``."""

    @app.exception_handler(ClamrError)
    async def clamr_error(_: Request, error: ClamrError) -> Response:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        headers = {"retry-after": str(Busy.seconds)} if status == 503 else None
        return as_json({"error": as_parameters(error.what), "hint": as_parameters(error.hint)}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][1:]) or "body"
        if first["loc"][0] == "path":
            return as_json(
                {"error": f"no {name.replace('_', ' ')} is {shorten(str(first['input']), 100)!r}", "hint": ""}, 404
            )
        if first["type"] == "extra_forbidden":
            return as_json({"error": f"unknown parameter: {shorten(name, 100)}", "hint": "see /docs"}, 422)
        what = "is missing" if first["type"] == "missing" else f"cannot be used ({first['msg'].lower()})"
        return as_json({"error": f"{shorten(name, 100)} {what}", "hint": "see /docs"}, 422)

    @app.exception_handler(TimeoutError)
    async def late(_: Request, __: TimeoutError) -> Response:
        error = {"error": "the answer took too long", "hint": "ask for less, or try again"}
        return as_json(error, 503, {"retry-after": str(Busy.seconds)})

    @app.exception_handler(StarletteHTTPException)
    async def refused(_: Request, error: StarletteHTTPException) -> Response:
        what = "there is nothing here" if error.detail == "Not Found" else str(error.detail).lower()
        return as_json({"error": what, "hint": "see /docs"}, error.status_code, dict(error.headers or {}))
