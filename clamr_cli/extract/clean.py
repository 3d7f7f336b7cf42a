"""Text from files, tags and recognisers: encodings are recognised, and what is hostile or invisible is removed."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from clamr_cli.languages import probable_language

# Control characters (escape sequences among them), lone surrogates, and the marks that reorder or hide what a terminal
# shows; joiners stay, scripts and emoji need them.
_UNWANTED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\uffff]"
)
# Inside of words: where they may be broken, or may not.
_INVISIBLE: Final = re.compile("[\u00ad\u200b\u2060\ufeff]")
_SPACES: Final = re.compile(r"\s+")
_SAMPLE: Final = 64 << 10  # bytes from which an encoding is guessed

_MARKS: Final = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_COMMON: Final = frozenset("\xa0…–—‘’“”„«»•♪♫°·¿¡€")
# Letters that are frequent in the languages written in cp1252.
_WESTERN: Final = frozenset("äöüßÄÖÜéèêëàâçîïôùœÉÈÊÀÂÇÎÔŒñáíóúÑÁÍÓÚ¿¡åøæÅØÆãÃ") | _COMMON

_HAN: Final = ("CJK", "FULLWIDTH", "IDEOGRAPHIC")
_KANA: Final = (*_HAN, "HIRAGANA", "KATAKANA", "HALFWIDTH")

# Language -> the code pages that its old files are in, the usual one first, and the names of its letters.
_PAGES: Final = {
    **dict.fromkeys(("ru", "bg", "be", "mk"), (("cp1251", "koi8_r", "cp866", "iso8859_5"), ("CYRILLIC",))),
    "uk": (("cp1251", "koi8_u", "cp1125", "iso8859_5"), ("CYRILLIC",)),
    "sr": (("cp1251", "cp1250", "iso8859_2"), ("CYRILLIC", "LATIN")),
    **dict.fromkeys(
        ("cs", "pl", "hu", "sk", "sl", "hr", "bs", "ro", "sq"), (("cp1250", "iso8859_2", "cp852"), ("LATIN",))
    ),
    "el": (("cp1253", "iso8859_7", "cp737"), ("GREEK",)),
    "tr": (("cp1254", "cp857"), ("LATIN",)),
    "az": (("cp1254", "cp1251"), ("LATIN", "CYRILLIC")),
    **dict.fromkeys(("he", "yi"), (("cp1255", "cp862"), ("HEBREW",))),
    **dict.fromkeys(("ar", "fa", "ur", "ps"), (("cp1256", "iso8859_6", "cp720"), ("ARABIC",))),
    **dict.fromkeys(("lt", "lv", "et"), (("cp1257", "iso8859_13", "iso8859_4"), ("LATIN",))),
    "vi": (("cp1258",), ("LATIN", "COMBINING")),
    "ja": (("cp932", "euc_jp", "iso2022_jp"), _KANA),
    "ko": (("cp949", "johab"), ("HANGUL", *_HAN)),
    **dict.fromkeys(("zh", "yue"), (("gb18030", "big5hkscs", "cp950"), _HAN)),
    "th": (("cp874",), ("THAI",)),
}
_WESTERN_PAGES: Final = ("cp1252", "cp850", "mac_roman")
_GUESSED_PAGES: Final = (
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp866", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258",
    "cp932", "euc_jp", "cp949", "gb18030", "big5", "cp874",
)  # fmt: skip
_ENTITY: Final = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_URL: Final = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_SEPARATORS: Final = re.compile(r"[\s_\-.+~()\[\]{},;]+")
# holidayVideo -> holiday Video; IMG1234 -> IMG 1234, while v27, mp4 and S01E02 stay what people call them.
_CAMEL: Final = re.compile(r"(?<=[^\W\d_]{2})(?=\d{2})|(?<=\d{2})(?=[^\W\d_]{3})|(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])")


def clean(text: str, limit: int = 2_000) -> str:
    """One line of at most ``limit`` characters without control characters, in normal form C, cut at a word's end."""
    # Four times the limit is ample for what spaces and marks take away, and keeps a hostile gigabyte off the regexes.
    line = _UNWANTED.sub(" ", _INVISIBLE.sub("", text[: 4 * limit]))
    line = _SPACES.sub(" ", unicodedata.normalize("NFC", line)).strip()
    if len(line) <= limit:
        return line
    cut = line[:limit]
    return cut.rsplit(" ", 1)[0] if line[limit] != " " and " " in cut else cut.rstrip()


def without_urls(text: str) -> str:
    """The text without its web addresses."""
    return _URL.sub(" ", text)


def refuse_entities(text: str) -> None:
    """Raises: ValueError: XML declares a document type or entities, which could be made to expand without end."""
    if _ENTITY.search(text):
        raise ValueError("it declares a document type or entities")


def fingerprint(text: str) -> str:
    """Letters and digits only, in one case: texts that say the same have the same one."""
    return "".join(character for character in text.casefold() if character.isalnum())


def split_words(name: str) -> str:
    """The words of a file or folder name, split at separators, capitals and digits: ``my_holidayVideo-2019``."""
    return " ".join(_CAMEL.sub(" ", part) for part in _SEPARATORS.split(name) if part)


def decode(content: bytes, language: str = "") -> str:
    """Text of a file that does not say its encoding; see :func:`encoding_of`. Damaged characters are replaced."""
    return content.decode(encoding_of(content, language)[0], errors="replace")


def encoding_of(content: bytes, language: str = "") -> tuple[str, bool]:
    """The encoding of a file, and whether it is sure: by its mark, as UTF-8, as UTF-16 by its zero bytes, else guessed.

    Args:
        content: all or enough of the file.
        language: short code of the language that it is written in, which says which code pages it may be.
    """
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding, True
    if b"\x1b$B" in content[:_SAMPLE] or b"\x1b$@" in content[:_SAMPLE]:
        return "iso2022_jp", True
    head = content[:4096]
    if (zeros := head.count(0)) > len(head) // 8:
        return ("utf-16-le" if 2 * head[1::2].count(0) >= zeros else "utf-16-be"), True
    sample = content[:_SAMPLE]
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        text = sample.decode("utf-8", errors="replace")
        damaged = text.count("\ufffd")
        # Each damaged character is one beyond ASCII too. In a code page, sequences of UTF-8 hardly come about.
        if sum(character > "\x7f" for character in text) >= 2 * damaged:
            return "utf-8", True
    else:
        return "utf-8", True
    pages, scripts = _PAGES.get(language, (_WESTERN_PAGES if language else (), ("LATIN",)))
    scores = {page: _plausibility(sample, page, scripts) for page in pages}
    best = max(scores, key=lambda page: scores[page], default="")
    if best and scores[best] > 0.7:
        return best, True
    if page := _latin_page(sample):
        return page, False
    # Imported here: hardly any file gets this far.
    import charset_normalizer

    match = charset_normalizer.from_bytes(sample, cp_isolation=list(_GUESSED_PAGES)).best()
    guess = match.encoding if match is not None else best or "cp1252"
    western = [character for character in sample.decode("cp1252", "replace") if character > "\x7f"]
    if guess in ("cp1250", "cp1254", "cp1257") and sum(c in _WESTERN for c in western) >= 0.93 * len(western):
        guess = "cp1252"
    elif guess in ("cp1250", "cp1252", "cp1254", "cp1257"):
        scores = {page: _plausibility(sample, page, ("LATIN",)) for page in (guess, "iso8859_2", "cp852")}
        best = max(scores, key=lambda page: scores[page])
        guess = best if scores[best] > scores[guess] + 0.2 else guess
    return guess, False


def _latin_page(sample: bytes) -> str:
    """The code page in which bytes with mostly plain letters read as text of a language; empty where none is clear."""
    if 2 * sum(byte > 0x7F for byte in sample) > sum(byte < 0x80 and chr(byte).isalpha() for byte in sample):
        return ""
    best, highest = "", 0.8
    for page in dict.fromkeys((*_WESTERN_PAGES, *(page for pages, _ in _PAGES.values() for page in pages))):
        try:
            text = sample.decode(page)
        except UnicodeDecodeError:
            continue
        language, probability = probable_language(text)
        pages, scripts = _PAGES.get(language, (_WESTERN_PAGES, ("LATIN",)))
        score = _plausibility(sample, page, scripts) * probability if page in pages else 0.0
        if score > highest:
            best, highest = page, score
    return best


def _plausibility(sample: bytes, page: str, scripts: tuple[str, ...]) -> float:
    """Plausibility of bytes in a code page: the share of characters beyond ASCII that are letters in their place."""
    text = sample.decode(page, errors="replace")
    beyond = score = 0
    for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
        inside = before.isalpha() and after.isalpha()
        if character > "\x7f" and (character not in _COMMON or (inside and character not in "’‘-–—\xad")):
            beyond += 1
            name = unicodedata.name(character, "")
            foreign = not name.startswith("LATIN") and (before.isascii() and before.isalpha())
            shouted = before.islower() and character.isupper()
            if character.isalpha() and name.startswith(scripts) and not (foreign or shouted):
                score += 1
            elif unicodedata.category(character) in ("Mn", "Lm", "Po", "Ps", "Pe", "Pd", "Nd") and name:
                score += bool(scripts != ("LATIN",))
            else:
                score -= 1
    if scripts == ("LATIN",) and 2 * beyond > sum(character.isalpha() for character in text):
        return 0.0  # every letter an accented one: no language is written so
    return score / beyond if beyond else 0.0
