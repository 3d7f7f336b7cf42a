"""What ``clamr frames`` writes to files: pictures, the list of them, clips and a contact sheet."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from clamr_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clamr_cli.cli.commands.frames import Flags
    from clamr_cli.frames import Choice, FrameHit, Prepared
    from clamr_cli.frames.export import Folder
    from clamr_cli.store import Store

Item = TypeVar("Item")

_SHEETS: Final = (".jpg", ".jpeg", ".png", ".webp")
_LARGEST: Final = 16_384


@dataclass(slots=True)
class Export:
    """What to write, and how each frame's files are called."""

    out: Path | None
    sheet: Path | None
    around: float | None
    exact: bool
    side: int
    force: bool
    quiet: bool
    names: dict[int, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, flags: Flags) -> Export:
        """What the flags ask for.

        Raises:
            UsageError: they do not fit together, or a sheet is in the way.
        """
        from clamr_cli.timeline import parse_time

        sheet = Path(os.path.expanduser(flags.sheet)) if flags.sheet else None
        if flags.out == "" or flags.sheet == "":
            raise UsageError("the place to write to is empty", "name a folder with --out, a file with --sheet")
        if flags.around is not None and flags.out is None:
            raise UsageError("--around writes clips into a folder", "name it with --out DIR")
        if flags.exact and flags.around is None:
            raise UsageError("--exact is about clips", "ask for them with --around 2s")
        if not 16 <= flags.side <= _LARGEST:
            raise UsageError(f"invalid --side: {flags.side}", f"give 16 to {_LARGEST} pixels")
        if sheet is not None and sheet.suffix.lower() not in _SHEETS:
            raise UsageError(f"a sheet cannot be written as {sheet.name}", f"let it end in {', '.join(_SHEETS)}")
        if sheet is not None and os.path.lexists(sheet) and not flags.force:
            raise UsageError(f"{sheet} is there already", "name another file, or replace it with --force")
        around = None if flags.around is None else parse_time(flags.around)
        if around == 0:
            raise UsageError(f"--around {flags.around} would cut clips of nothing", "give a length of time such as 2s")
        out = Path(os.path.expanduser(flags.out)) if flags.out else None
        return cls(out, sheet, around, flags.exact, flags.side, flags.force, flags.quiet)

    def files(self, hit: FrameHit) -> dict[str, str]:
        """What is written of a frame: ``file`` and ``clip``."""
        return self.names.get(hit.number, {})

    def write(self, store: Store, prepared: Prepared, question: str, choice: Choice, hits: Sequence[FrameHit]) -> bool:
        """Write everything; False where a clip could not be cut.

        Raises:
            UsageError: a place cannot be written to, or holds something else.
        """
        whole = True
        if self.out is not None:
            whole = self._folder(store, prepared, question, choice, hits)
        if self.sheet is not None:
            self._sheet(store, prepared, question, hits)
        return whole

    def _folder(
        self, store: Store, prepared: Prepared, question: str, choice: Choice, hits: Sequence[FrameHit]
    ) -> bool:
        from clamr_cli.cli.frames_output import listing
        from clamr_cli.frames.export import Folder

        assert self.out is not None
        self._name(prepared, hits)
        if self.around is not None and not prepared.target.path:
            raise UsageError("the video's file is not at hand, so no clips can be cut", "leave out --around")
        names = [name for files in self.names.values() for name in files.values()]
        content = listing(prepared, question, choice, hits, self.names, self._way())
        folder = Folder.begin(self.out, content, names, force=self.force)
        self._pictures(store, prepared, hits, folder)
        return self.around is None or self._clips(prepared, hits, folder)

    def _way(self) -> dict[str, object]:
        """What else shapes the files: another run that finds them with the same list need not write them again."""
        clips = {} if self.around is None else {"around": self.around, "exact": self.exact}
        return {"side": self.side, **clips}

    def _name(self, prepared: Prepared, hits: Sequence[FrameHit]) -> None:
        from clamr_cli.frames import clips
        from clamr_cli.timeline import file_time

        for hit in hits:
            stem = file_time(hit.time)
            self.names[hit.number] = {"file": f"{stem}.jpg"}
            if self.around is not None:
                self.names[hit.number]["clip"] = stem + clips.suffix(prepared, exact=self.exact)

    def _pictures(self, store: Store, prepared: Prepared, hits: Sequence[FrameHit], folder: Folder) -> None:
        from clamr_cli.cli.output import warn
        from clamr_cli.frames import pictures

        wanted = [hit for hit in hits if not folder.has(self.names[hit.number]["file"])]
        small = 0
        for picture in self._told("writing pictures", pictures(store, prepared, wanted, side=self.side), len(wanted)):
            folder.write(self.names[picture.hit.number]["file"], picture.jpeg)
            small += picture.small
        if small:
            warn(f"{small} of {len(hits)} pictures are the small ones kept of the video: the file did not give them")

    def _clips(self, prepared: Prepared, hits: Sequence[FrameHit], folder: Folder) -> bool:
        from clamr_cli.cli.output import warn
        from clamr_cli.frames import clips
        from clamr_cli.timeline import format_time

        names = {hit.number: self.names[hit.number]["clip"] for hit in hits}
        cut = clips.write_clips(prepared, hits, names, folder, self.around or 0.0, exact=self.exact)
        whole = True
        for hit, error in self._told("cutting clips", cut, len(hits)):
            if error is not None:
                whole = False
                warn(f"no clip around {format_time(hit.time)}: {error}")
        return whole

    def _sheet(self, store: Store, prepared: Prepared, question: str, hits: Sequence[FrameHit]) -> None:
        from clamr_cli.frames import stills
        from clamr_cli.frames.export import Folder, writing
        from clamr_cli.frames.sheet import Cell, sheet

        assert self.sheet is not None
        ordered = sorted(hits, key=lambda hit: hit.time)
        jpegs = stills(store, prepared, [hit.number for hit in ordered])
        cells = [Cell(hit, jpeg) for hit, jpeg in zip(ordered, jpegs, strict=True)]
        with writing(self.sheet):
            self.sheet.parent.mkdir(parents=True, exist_ok=True)
        Folder(self.sheet.parent).write(self.sheet.name, sheet(question, cells, self.sheet.suffix))

    def _told(self, doing: str, items: Iterator[Item], total: int) -> Iterator[Item]:
        """The items, with a bar on a terminal."""
        from clamr_cli.cli.progress import counted

        yield from counted(doing, items, total, quiet=self.quiet)
