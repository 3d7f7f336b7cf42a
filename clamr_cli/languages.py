"""Languages by the codes and names that files, containers and people use, and the sound tracks that speak them.

Everywhere else languages are short codes.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from clamr_cli.types import AudioTrack, MediaInfo

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_NONE: Final = frozenset(("", "mis", "mul", "und", "zxx"))
_PRIMARY: Final = re.compile(r"[A-Za-z]{2,3}(?![A-Za-z])")
_RESERVED: Final = re.compile(r"q[a-t][a-z]")

# Codes that are kept under another one: the one that Whisper, yt-dlp and most files use.
_SAME: Final = {"cmn": "zh", "fil": "tl", "nb": "no", "cnr": "sr"}

# What file names use beside ISO 639 codes and the names that langcodes knows.
_ALIASES: Final = {
    "jp": "ja", "kr": "ko", "cn": "zh", "tw": "zh", "chs": "zh", "cht": "zh", "zhs": "zh", "zht": "zh", "sc": "zh",
    "tc": "zh", "ua": "uk", "cz": "cs", "gr": "el", "dk": "da", "vn": "vi", "pob": "pt", "ptb": "pt", "brazilian": "pt",
    "portugues": "pt", "espanol": "es", "castellano": "es", "latino": "es", "spn": "es", "spl": "es", "vostfr": "fr",
    "cestina": "cs", "turkce": "tr", "romana": "ro", "slovencina": "sk", "bokmal": "no", "norsk": "no",
    "simplified": "zh", "traditional": "zh", "mandarin": "zh", "cantonese": "yue", "flemish": "nl",
}  # fmt: skip

# Three-letter codes in file names that have no shorter form and are languages of subtitles rather than words.
_THREE_LETTERS: Final = frozenset(("ast", "ceb", "fil", "gsw", "haw", "mni", "nds", "yue", "cmn", "cnr"))

# Languages that are written and heard alike, so that captions in one serve for speech that was tagged as the other.
_ALIKE: Final = (
    frozenset(("no", "nn")), frozenset(("hr", "sr", "bs")), frozenset(("ms", "id")), frozenset(("zh", "yue")),
    frozenset(("hi", "ur")), frozenset(("fa", "prs")),
)  # fmt: skip

# Titles of tracks that are not the main sound, as discs, broadcasters and tools write them.
_PATTERNS: Final = {
    "commentary": r"comment(ar|at)|commento|komment(ar|ti)|komentarz|коммент|解説|コメンタリ|评论|評論|해설",
    "description": r"audio.?descri|descripti|described|deskription|hörfilm|тифло|malvoyant|syntolk|\bad\b|\bdvs\b",
    "effects": r"isolated|(music|score|effects) only|music (and|&) effects|\bm&e\b|karaoke|instrumental|no dialog",
    "hearing-impaired": r"hearing.impaired|hörgeschädigt|malentendant|enhanced dialog|clear dialog",
    "dub": r"\bdub(bed|bing|s)?\b|дубл|озвуч|закадр|synchron|doublage|\bvf[fq]\b|doppiag|doblaje|dublagem|lektor",
}
_ROLES: Final = {role: re.compile(pattern, re.IGNORECASE) for role, pattern in _PATTERNS.items()}

_LEAST_LETTERS: Final = 40
_CLEAR: Final = 0.9
"""Probability from which the language of a text counts as recognised."""


@functools.lru_cache(maxsize=1024)
def short_code(tag: str) -> str:
    """The two-letter code of a language tag such as ``eng``, ``fre``, ``pt-BR`` or ``en_GB``.

    A tag without a two-letter code is returned as it is, in lower case; one that names no language gives an empty
    string.

    >>> short_code("ger"), short_code("pt-BR"), short_code("und")
    ('de', 'pt', '')
    """
    match = _PRIMARY.match(tag.strip())
    primary = match[0].lower() if match else ""
    if primary in _NONE or _RESERVED.fullmatch(primary):
        return ""
    # Imported here and below: most runs meet no language tag, and need not wait for it.
    import langcodes

    try:
        code = langcodes.Language.get(primary).language or primary
    except langcodes.LanguageTagError:
        code = primary
    return _SAME.get(code, code)


@functools.lru_cache(maxsize=1024)
def language_named(word: str) -> str:
    """The short code of a language that a part of a file name names; empty where it names none.

    Known are ISO 639 codes, with a region or script, and names in English and in the language itself.

    >>> language_named("eng"), language_named("English"), language_named("Deutsch"), language_named("pt-BR")
    ('en', 'en', 'de', 'pt')
    >>> language_named("forced"), language_named("the")
    ('', '')
    """
    word = word.strip().casefold()
    if word in _ALIASES:
        return _ALIASES[word]
    primary = re.split(r"[-_]", word, maxsplit=1)[0]
    if re.fullmatch(r"[a-z]{2,3}", primary):
        code = short_code(primary)
        return code if (len(code) == 2 and _exists(code)) or primary in _THREE_LETTERS else ""
    if len(word) < 2 or len(word) > 40 or not any(character.isalpha() for character in word):
        return ""
    import langcodes

    try:
        code = short_code(langcodes.find(word).language or "")
    except LookupError:
        return ""
    return code if len(code) == 2 or code in _THREE_LETTERS else ""


def is_translation(tag: str) -> bool:
    """Whether a tag is yt-dlp's for a machine translation: a language and the one that it was translated from.

    >>> is_translation("de-en"), is_translation("de-at"), is_translation("en-en")
    (True, False, False)
    """
    import langcodes

    language, _, source = tag.casefold().partition("-")
    language = short_code(language)
    if not re.fullmatch(r"[a-z]{2}", source) or language == short_code(source) or not _exists(source):
        return False
    return not langcodes.Language.make(language=language, territory=source.upper()).is_valid()


def _exists(code: str) -> bool:
    import langcodes

    return bool(langcodes.Language.get(code).is_valid())


def same_language(first: str, second: str) -> bool:
    """Whether two short codes name one language, or two that are heard and read alike."""
    return first == second or any(first in group and second in group for group in _ALIKE)


@functools.lru_cache(maxsize=256)
def language_of_text(text: str) -> str:
    """The short code of the language that a text is clearly in; empty where it is short or not clear."""
    if sum(character.isalpha() for character in text) < _LEAST_LETTERS and text.isascii():
        return ""
    code, probability = probable_language(text)
    return code if probability >= _CLEAR else ""


def probable_language(text: str) -> tuple[str, float]:
    """The short code of the language that a text is most probably in, and how probable that is."""
    code, probability = _identifier().classify(text)
    return short_code(code), float(probability)


@functools.lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    # Imported here: it loads a model, and most captions say their language.
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


# --- sound tracks -----------------------------------------------------------------------------------------------------


def audio_role(title: str, language: str = "") -> str:
    """The role of an audio track by its title; see :class:`AudioTrack`.

    One word on a track without a language is how people name the tracks of a recorder: it says nothing.

    >>> audio_role("Director's Commentary"), audio_role("Commentary"), audio_role("English 5.1", "en")
    ('commentary', '', '')
    """
    if not language and len(title.split()) < 2:
        return ""
    return next((role for role, pattern in _ROLES.items() if pattern.search(title)), "")


def choose_track(info: MediaInfo, language: str = "") -> AudioTrack | None:
    """The track to listen to: of the wanted language, of the main sound, the default one, the first; None without any.

    Tracks without a decoder do not count. ``language`` is a code such as ``de`` or ``deu``, or empty.
    """
    groups = track_groups(info, language)
    return groups[0][0] if groups else None


def track_groups(info: MediaInfo, language: str = "") -> list[list[AudioTrack]]:
    """The tracks that may carry the speech, those to try first in the first group, best first.

    The first group holds :func:`choose_track`'s and those alike in language and role: a screen recorder puts programs
    and the microphone on tracks of their own. The others, such as translations and commentaries, are for files where
    these are silent.
    """
    wanted, order = short_code(language), ["", *reversed(_ROLES)]
    tracks = sorted(
        (track for track in info.audio if track.codec),
        key=lambda track: (not (wanted and track.language == wanted), order.index(track.role), not track.default),
    )
    alike = [track for track in tracks if track.language in (tracks[0].language, "") and track.role == tracks[0].role]
    return [group for group in (alike, [track for track in tracks if track not in alike]) if group]
