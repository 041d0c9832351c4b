"""Letters of languages outside ASCII, and which of several encodings makes a text look like one of them.

The weights are occurrences among a thousand letters of ordinary text, rounded.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

ENCODINGS = (
    *("cp1252", "cp1250", "iso-8859-2", "cp1251", "koi8-r", "koi8-u", "cp1253", "iso-8859-7", "cp1254", "cp1257"),
    *("iso-8859-13", "cp1255", "cp1256"),
)
RIVALS = (  # never chosen: a text that fits them as well is in doubt
    *("iso-8859-15", "iso-8859-4", "iso-8859-5", "iso-8859-6", "iso-8859-16", "cp437", "cp850", "cp852", "cp855"),
    *("cp866", "cp1258", "mac-roman", "mac-latin2", "mac-cyrillic"),
)
LETTERS = {
    "Polish": "ł18 ę11 ą10 ó8 ż8 ś7 ć4 ń2 ź1",
    "Czech": "í31 á22 ě16 é13 ř12 ý11 č10 ž10 š8 ů7 ú1 ó.3 ť.4 ď.2 ň.2",
    "Slovak": "á18 č11 í10 ý10 é9 š9 ú9 ž9 ť6 ľ4 ň2 ó1.5 ô1.7 ä1 ď1 ĺ.2 ŕ.1",
    "Hungarian": "é35 á34 ó10 ö10 ő9 í7 ü5 ú3 ű2.5",
    "Romanian": "ă24 î11 ţ11 ş12 â9",
    "Romanian with commas": "ă24 î11 ț11 ș12 â9",
    "Croatian": "č10 š9 ć9 ž6 đ3",
    "Slovene": "č13 š10 ž6",
    "German": "ü6.5 ä5.5 ß3 ö3",
    "French": "é19 à5 è3 ê2 ç.9 ù.6 â.5 î.5 û.4 ô.3 œ.2 ë.1 ï.1",
    "Spanish": "ó8 í7 á5 é4 ñ2.5 ú2 ü.1",
    "Portuguese": "ã8 ç6 á5 é5 í3 ó3 ê3 õ2 â1.5 à1 ú1 ô1",
    "Italian": "à6 è4 ò2 ù2 é1 ì1",
    "Dutch": "ë.8 é.5 ï.3 ö.1 ü.1",
    "Swedish": "ä18 å13 ö13 é.2",
    "Danish": "å12 æ9 ø9 é.3",
    "Finnish": "ä36 ö4.4 å.1",
    "Icelandic": "ð44 á18 í16 þ15 ó10 æ9 ö8 é7 ú6 ý2",
    "Catalan": "à7 ó5 é4 è4 í4 ò2 ú2 ç1.5 ï.3 ü.2",
    "Estonian": "ä10 õ9 ü7 ö2 š.1 ž.1",
    "Lithuanian": "ė16 ų12 š8 ž8 į6 ą5 č4 ū4 ę2",
    "Latvian": "ā40 ī20 ē17 š8 ū6 ņ5 ļ2 ž2 č1 ģ1 ķ1",
    "Turkish": "ı50 ü18 ş17 ğ11 ç9 ö8 â.2",
    "Albanian": "ë60 ç5",
    "Russian": (
        "о110 е85 а80 и74 н67 т63 с55 р47 в45 л44 к35 м32 д30 п28 у26 я20 ы19 ь17 г17 з16 б16 ч14 й12 х10 ж9 ш7 "
        "ю6 ц5 щ4 э3 ф3 ъ.4 ё.4"
    ),
    "Ukrainian": (
        "о94 а72 н65 и61 і57 в55 т55 р47 е45 с40 л36 к35 д34 у33 м31 п29 я25 з23 ь18 б18 г16 ч14 й14 х12 ю9 ж9 ш8 "
        "ї6 є6 ц6 щ5 ф4 ґ.1"
    ),
    "Bulgarian": (
        "а117 и90 о88 е87 т72 н72 р53 с50 в45 л35 к34 д34 п28 м24 з21 ъ17 я16 у16 г15 ч15 б13 щ7 х7 ж7 й7 ц6 ш4 ф3 "
        "ю1.5 ь.2"
    ),
    "Serbian": (
        "а115 о95 и95 е90 н56 с46 ј46 т45 р45 у43 в38 к38 д37 л34 м32 п29 з17 г17 б16 ч9 ш9 њ7 љ6 ћ7 ц7 ж6 х6 ф3 ђ2 џ.1"
    ),
    "Greek": (
        "α110 ο90 ι80 ε80 τ78 ν65 σ50 η45 ρ42 π42 κ40 ς40 υ36 μ33 λ30 ω20 γ18 ί18 ά18 δ17 έ16 ό15 ή13 θ11 χ11 ύ9 φ9 "
        "β7 ώ7 ξ5 ζ4 ψ2 ϊ1"
    ),
    "Hebrew": (
        "י110 ו105 ה95 ל75 א65 ר58 ת55 ב50 ש48 מ47 נ40 ע33 ד28 ם28 ח25 ק22 כ22 פ20 ס15 ט13 ג13 ז13 ן12 צ12 ך8 ף3 ץ2"
    ),
    "Arabic": (
        "ا125 ل115 ي70 م65 و60 ن60 ر50 ت45 ب35 ة35 ع35 د32 ه30 س28 ف28 ك25 ق22 أ22 ح18 ج14 ش10 ص10 ط10 ى10 خ8 إ8 ض6 "
        "ذ5 ز5 ث5 ئ4 غ4 ء3 ظ2 آ2 ؤ1"
    ),
}
WORDS = {
    "Polish": "i w na z do nie to jest co jak czy od za po o ale dla przez tak tego",
    "Czech": "a se v na je to s z do o i ale jak co by za pro od tak ve",
    "Slovak": "a sa v na je to s z do o ako ale by za pre od tak vo bol",
    "Hungarian": "a az hogy nem egy is van de meg volt ha ki csak mint el ez volna kell",
    "Romanian": "a de la cu pe nu un o mai din care sunt este au ce sau dar",
    "Croatian": "i u je na se da su za od s o ne a koji kao to iz ili bio",
    "Slovene": "in je v na se da za so ki ne pa z po s kot od tudi bi bil",
    "German": "der die und in den von zu das mit sich des auf ist im dem nicht ein eine als auch es an",
    "French": "de la le et les des en un du une que est pour qui dans sur pas au il par plus ce ne se",
    "Spanish": "de la que el en y a los se del las un por con no una su para es al lo como",
    "Portuguese": "de a o que e do da em um para com uma os no se na por mais as dos como mas ao",
    "Italian": "di e il la che in a per un del con non una sono da si le dei al come i gli",
    "Dutch": "de van een het en in is dat op te zijn met voor niet aan er om ook als maar",
    "Swedish": "och i att det som en av den med till inte om ett har de var sig hur",
    "Danish": "og i at det som en af den med til ikke om et har de var sig er for",
    "Finnish": "ja on ei se oli ole mutta kun joka niin tai kuin myös hän ovat",
    "Icelandic": "og er ekki um hann var sem til af en frá við eru",
    "Catalan": "de la i el que a en les un els per del una amb no es",
    "Estonian": "ja on ei see et oli ka kui aga ta mis selle",
    "Lithuanian": "ir kad su yra o bet kaip tai iš buvo ne jis",
    "Latvian": "un ir no ar kas uz par bet to ka tas vai",
    "Turkish": "ve bir bu da de ne o gibi ile var mi kadar sonra ama daha en",
    "Albanian": "dhe e i me se nga ka u do si kur por",
}
PUNCTUATION = frozenset("„“”‘’‚‹›«»–—…°§€£©®™•·¿¡\u00a0№½¼¾²³×±´`¹")
TYPOGRAPHY = frozenset("„“”‘’‚‹›«»–—…°§€£©®™•·¿¡\u00a0")
MIN_MARGIN = 12.0  # of the log-likelihood over the second best text
MIN_LETTERS = 2  # different ones
MAX_SURPRISE = 1.6  # by which the mean surprise of a letter may exceed that of its language
MAX_ODD = 0.02  # share of words with signs, digits or capitals within
OUTSIDE, MARK, CASE = -12.0, -6.0, -8.0  # log-likelihood of other letters, of signs, of `aB`
WORD_GAIN, MAX_WORD_GAIN = 1.5, 40.0  # of the log-likelihood for a word of the language
_ODD = re.compile(r"\d[^\W\d_]|[^\W\d_]\d")


@dataclass(frozen=True, slots=True)
class _Text:
    """Statistics of decoded words: their signs outside ASCII, and the words that no language writes."""

    signs: Counter[str]
    breaks: int
    odd: float


def clear_encoding(words: Sequence[bytes], ascii_words: Mapping[str, int]) -> str | None:
    """Return the encoding of words with bytes above 127 if the text that it gives is clearly the right one.

    It is if its letters and the ASCII words around it are those of a language, and no other text comes near.
    """
    gains = {language: _word_gain(language, ascii_words) for language in LETTERS}
    best: dict[tuple[str, ...], tuple[float, str, str]] = {}
    for encoding in (*ENCODINGS, *RIVALS):
        try:
            texts = tuple(word.decode(encoding) for word in words)
        except UnicodeDecodeError:
            continue
        if texts in best:
            continue
        text = _describe(texts)
        score, language = max((_score(text, language) + gain, language) for language, gain in gains.items())
        best[texts] = (score, language, encoding)
    ranked = sorted(best.items(), key=lambda item: -item[1][0])
    if not ranked or (len(ranked) > 1 and ranked[0][1][0] - ranked[1][1][0] < MIN_MARGIN):
        return None
    texts, (_, language, encoding) = ranked[0]
    return encoding if encoding in ENCODINGS and _is_in(_describe(texts), language) else None


@cache
def _weights(language: str) -> dict[str, float]:
    """Return the log-probability of each letter of a language among its letters outside ASCII."""
    weights = {entry[0]: float(entry[1:]) for entry in LETTERS[language].split()}
    total = sum(weights.values())
    return {letter: math.log(weight / total) for letter, weight in weights.items()}


def _word_gain(language: str, ascii_words: Mapping[str, int]) -> float:
    usual = set(WORDS.get(language, "").split())
    return min(WORD_GAIN * sum(count for word, count in ascii_words.items() if word in usual), MAX_WORD_GAIN)


def _describe(texts: Sequence[str]) -> _Text:
    signs = Counter(sign.lower()[:1] for text in texts for sign in text if sign > "\x7f")
    breaks = sum(
        a.islower() and b.isupper() and (a > "\x7f" or b > "\x7f") for text in texts for a, b in pairwise(text)
    )
    odd = sum(bool(_ODD.search(text)) or len(_scripts(text)) > 1 for text in texts)
    return _Text(signs, breaks, (odd + breaks) / max(len(texts), 1))


def _scripts(text: str) -> set[str]:
    return {unicodedata.name(sign, "?").partition(" ")[0] for sign in text if sign.isalpha()}


def _score(text: _Text, language: str) -> float:
    """Return the log-likelihood of the signs of a text in a language."""
    weights = _weights(language)
    letters = sum(
        count * weights.get(sign, MARK if sign in TYPOGRAPHY or not sign.isalpha() else OUTSIDE)
        for sign, count in text.signs.items()
    )
    return letters + CASE * text.breaks


def _is_in(text: _Text, language: str) -> bool:
    """Return whether the letters of a text, and how often they occur, are those of a language."""
    weights = _weights(language)
    letters = Counter({sign: count for sign, count in text.signs.items() if sign not in TYPOGRAPHY})
    total = letters.total()
    if len(letters) < MIN_LETTERS or text.odd > MAX_ODD or any(sign not in weights for sign in letters):
        return False
    surprise = -sum(count * weights[sign] for sign, count in letters.items()) / total
    expected = -sum(math.exp(value) * value for value in weights.values())
    return surprise <= expected + MAX_SURPRISE
