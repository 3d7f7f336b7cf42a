"""``clamr similar``: the moments that are most like a moment or a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from clamr_cli import terms
from clamr_cli.cli import options
from clamr_cli.cli.options import Context, encoder_for, open_indexes
from clamr_cli.cli.output import Form, emit, warn
from clamr_cli.errors import EXIT_FOUND, EXIT_NOTHING
from clamr_cli.records import HIT, partial_coverage
from clamr_cli.types import Filters, SearchOptions


@dataclass(frozen=True, kw_only=True)
class SimilarArguments(options.FormOptions, options.EncoderOptions):
    place: Annotated[
        str,
        typer.Argument(
            metavar="VIDEO[@TIME[-TIME]]", help="A rank, id, title part or file, and when: 3, film.mp4@12:03."
        ),
    ]
    modality: options.ModalityOption = None
    path: options.PathOption = None
    tag: options.TagOption = None
    speaker: options.SpeakerOption = None
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", help="Results (default 10).")] = None
    moments: Annotated[bool, typer.Option("--moments", help="All good moments, not one of each video.")] = False
    itself: Annotated[bool, typer.Option("--itself", help="Let the moment and its neighbours be results too.")] = False
    encoder: options.EncoderOption = None
    device: options.DeviceOption = None
    ids: Annotated[bool, typer.Option("--ids", help="Show the ids of the videos too.")] = False
    csv: options.CsvOption = False


def similar(context: Context, arguments: SimilarArguments) -> int:
    """Find the moments that are most like a moment or a video.

    'clamr similar 3' takes the third hit of the last search, at the second that it showed. Other names stand for the whole video, unless they have a time: film.mp4@12:03 is the moment around that second, film.mp4@12:03-12:09 what is between. A picture, or a video that is not in the index, is a file: some frames of it are encoded.

    Of what is in the index the stored vectors are compared, so nothing is decoded: pictures with pictures, and what is said or written on screen with that. Metadata counts with -m metadata. The moment itself and its neighbours in the same video are left out, unless --itself is given. The evidence names the frame or line of the example and the one that is like it.

    The output is that of 'clamr search', and its ranks are names for other commands.

    Examples:
        clamr similar 3
        clamr similar film.mp4@12:03-12:09 --moments -m video
    """  # noqa: E501 -- a paragraph of help is a line
    from clamr_cli.cli.hits import print_hits
    from clamr_cli.cli.progress import waiting
    from clamr_cli.search import search as find
    from clamr_cli.store import LastHit

    form, modalities = arguments.form, terms.modalities(arguments.modality)
    settings = context.reading_settings(encoder=arguments.encoder, limit=arguments.limit, device=arguments.device)
    search_options = SearchOptions(
        modalities=modalities,
        limit=settings.limit,
        moments=arguments.moments,
        filters=Filters(path=arguments.path, tags=tuple(arguments.tag or ()), speakers=tuple(arguments.speaker or ())),
    )
    store = open_indexes(context, settings)
    encoder = encoder_for(store, settings, arguments.encoder_settings())
    store.refresh(encoder.info.fingerprint)
    with waiting("searching"):
        example, like = options.example(store, encoder, arguments.place, modalities, itself=arguments.itself)
        hits = find(store, encoder, "", search_options, device=settings.device, example=example)
    ranks = [LastHit.of(hit) for hit in hits]
    store.remember_search("", search_options, encoder.info.name, ranks, like)
    if not hits:
        warn("nothing else can be compared with it")
        return EXIT_NOTHING
    if form is Form.TABLE:
        print_hits(store, "", hits, ids=arguments.ids, everything=True)
    else:
        emit(HIT, hits, form, extra=partial_coverage(store, encoder.info.fingerprint))
    if all(hit.weak for hit in hits):
        warn("only weak hits: probably nothing else is like it")
        return EXIT_NOTHING
    return EXIT_FOUND
