"""Language tags as containers write them (ISO 639-2, BCP 47) to the short codes (ISO 639-1) used everywhere else."""

from __future__ import annotations

import re
from typing import Final

# Both ISO 639-2 codes where there are two (bibliographic and terminological).
_CODES = (
    "afr:af alb:sq sqi:sq amh:am ara:ar arm:hy hye:hy asm:as aze:az bak:ba baq:eu eus:eu bel:be ben:bn bod:bo tib:bo "
    "bos:bs bre:br bul:bg bur:my mya:my cat:ca ces:cs cze:cs chi:zh zho:zh cmn:zh cym:cy wel:cy dan:da deu:de ger:de "
    "dut:nl nld:nl ell:el gre:el eng:en epo:eo est:et fao:fo fas:fa per:fa fil:tl tgl:tl fin:fi fra:fr fre:fr fry:fy "
    "geo:ka kat:ka gle:ga glg:gl guj:gu hat:ht hau:ha haw:haw heb:he hin:hi hrv:hr hun:hu ibo:ig ice:is isl:is ind:id "
    "ita:it jav:jv jpn:ja kan:kn kaz:kk khm:km kin:rw kir:ky kor:ko kur:ku lao:lo lat:la lav:lv lin:ln lit:lt ltz:lb "
    "mac:mk mkd:mk mal:ml mao:mi mri:mi mar:mr may:ms msa:ms mlg:mg mlt:mt mon:mn nep:ne nno:nn nob:no nor:no oci:oc "
    "ori:or pan:pa pol:pl por:pt pus:ps ron:ro rum:ro rus:ru san:sa sin:si slk:sk slo:sk slv:sl sna:sn snd:sd som:so "
    "spa:es srp:sr sun:su swa:sw swe:sv tam:ta tat:tt tel:te tgk:tg tha:th tir:ti tuk:tk tur:tr uig:ug ukr:uk urd:ur "
    "uzb:uz vie:vi wol:wo xho:xh yid:yi yor:yo yue:yue zul:zu"
)
_SHORT: Final = dict(pair.split(":") for pair in _CODES.split())
_NONE: Final = frozenset(("", "mis", "mul", "qaa", "und", "zxx"))
_PRIMARY: Final = re.compile(r"[A-Za-z]{2,3}(?![A-Za-z])")


def short_code(tag: str) -> str:
    """The two-letter code of a language tag such as ``eng``, ``fre`` or ``pt-BR``.

    A tag without a two-letter code is returned as it is, in lower case; one that names no language gives an empty
    string.

    >>> short_code("ger"), short_code("pt-BR"), short_code("und")
    ('de', 'pt', '')
    """
    match = _PRIMARY.match(tag.strip())
    primary = match[0].lower() if match else ""
    return "" if primary in _NONE else _SHORT.get(primary, primary)
