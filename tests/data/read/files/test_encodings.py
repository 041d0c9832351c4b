"""Text in a national encoding is read right, or is a fault that shows how it reads in each: never silently wrong."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamerton.data.data_file import DataFile
from kamerton.data.options import Columns
from kamerton.data.read.files.encodings import national_encoding
from kamerton.data.read.records import read_rows
from kamerton.errors import Fault

ENCODINGS = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp437", "cp737"),
    *("cp775", "cp850", "cp852", "cp855", "cp857", "cp862", "cp866", "cp874", "cp932", "euc-jp", "gb18030", "big5"),
    *("euc-kr", "johab", "koi8-r", "koi8-u", "iso-8859-1", "iso-8859-2", "iso-8859-3", "iso-8859-4", "iso-8859-5"),
    *("iso-8859-6", "iso-8859-7", "iso-8859-8", "iso-8859-9", "iso-8859-10", "iso-8859-13", "iso-8859-14"),
    *("iso-8859-15", "iso-8859-16", "kz1048", "mac-croatian", "mac-cyrillic", "mac-greek", "mac-iceland", "mac-latin2"),
    *("mac-roman", "mac-romanian", "mac-turkish", "ptcp154"),
)
SENTENCES = {
    "Polish": (
        "Święty młyn stał w Łodzi, a źródlany nad rzeką",
        "Zażółć gęślą jaźń w mieście Ames",
        "Gdzie jest mój bagaż i kiedy przyjdzie?",
        "Proszę o zwrot pieniędzy za zamówienie",
        "Bardzo dobry film, polecam wszystkim którzy lubią komedie",
        "Nie mogę się zalogować do konta od wczoraj wieczorem",
    ),
    "Czech": (
        "Příliš žluťoučký kůň úpěl ďábelské ódy",
        "Kde je můj balík a kdy přijde?",
        "Film se mi vůbec nelíbil, herci hráli špatně",
        "Nemohu se přihlásit ke svému účtu",
    ),
    "Slovak": (
        "Kde je môj balík a kedy príde?",
        "Film sa mi vôbec nepáčil, herci hrali zle",
        "Neviem sa prihlásiť do účtu, prosím o pomoc",
    ),
    "Hungarian": (
        "Hol van a csomagom és mikor érkezik meg?",
        "Nagyon jó film volt, mindenkinek ajánlom",
        "Nem tudok bejelentkezni a fiókomba tegnap óta, kérem segítsenek",
        "Őrült sűrű köd ülte meg a várost",
    ),
    "Romanian": (
        "Unde este coletul meu şi când ajunge?",
        "Filmul a fost foarte bun, îl recomand tuturor",
        "Nu pot să mă conectez la cont",
    ),
    "Croatian": (
        "Gdje je moj paket i kada će stići?",
        "Film je bio vrlo dobar, preporučujem ga svima",
        "Ne mogu se prijaviti na račun, molim pomoć što prije",
        "Čuvaj se šuma i rječica đaka",
    ),
    "Slovene": (
        "Kje je moj paket in kdaj bo prišel?",
        "Film je bil zelo dober, priporočam ga vsem",
        "Ne morem se prijaviti v račun že včeraj",
    ),
    "German": (
        "Wo ist mein Paket und wann kommt es über die Grenze?",
        "Der Film war sehr schön, ich empfehle ihn für alle",
        "Müller fährt über die Straße",
        "Können Sie mir bitte helfen? Ich weiß nicht weiter",
    ),
    "French": (
        "Où est mon colis et quand arrivera-t-il à Besançon?",
        "Le film était très bien, je le recommande à tous",
        "Je ne peux pas me connecter à mon compte depuis hier, aidez-moi s'il vous plaît",
        "Une fenêtre fermée, un garçon tranquille, ça va",
    ),
    "Spanish": (
        "¿Dónde está mi paquete y cuándo llegará?",
        "La película fue muy buena, la recomiendo a todos los niños",
        "No puedo iniciar sesión en mi cuenta desde ayer",
    ),
    "Portuguese": (
        "Onde está a minha encomenda e quando é que chega?",
        "O filme foi muito bom, recomendo a todos, não percam a sessão",
        "Não consigo entrar na minha conta desde ontem",
    ),
    "Italian": (
        "Dov'è il mio pacco e quando arriverà in città?",
        "Il film è stato molto bello, perché non lo guardi più volte",
        "Non riesco ad accedere, così non può funzionare",
    ),
    "Dutch": ("Waar is mijn pakket en wanneer komt het? Ik heb één vraag over de financiële coördinatie",),
    "Swedish": (
        "Var är mitt paket och när kommer det?",
        "Filmen var mycket bra, jag rekommenderar den för alla på bio",
    ),
    "Danish": (
        "Hvor er min pakke, og hvornår kommer den på døren?",
        "Filmen var rigtig god, jeg kan anbefale den til børn og ældre",
    ),
    "Finnish": (
        "Missä pakettini on ja milloin se tulee perille tänään?",
        "Elokuva oli erittäin hyvä, suosittelen sitä kaikille",
    ),
    "Icelandic": (
        "Hvar er pakkinn minn og hvenær kemur hann á þennan stað?",
        "Myndin var mjög góð, ég mæli með henni það er víst",
    ),
    "Catalan": ("On és el meu paquet i quan arribarà? Això és important, però no sé què fer",),
    "Estonian": (
        "Kus on minu pakk ja millal see kohale jõuab? Ma ei näe õiget äppi",
        "Film oli väga hea, soovitan kõigile sõpradele",
    ),
    "Lithuanian": (
        "Kur yra mano siuntinys ir kada jis atkeliaus į miestą?",
        "Filmas buvo labai geras, rekomenduoju jį visiems, ačiū už pagalbą",
    ),
    "Latvian": (
        "Kur ir mana paka un kad tā pienāks?",
        "Filma bija ļoti laba, iesaku to visiem, paldies par palīdzību",
    ),
    "Turkish": (
        "Paketim nerede ve ne zaman gelecek? Çok bekledim, lütfen yardım edin",
        "Film çok güzeldi, herkese tavsiye ederim, oğlum da beğendi",
        "Şişli'de kaç değirmen vardı",
    ),
    "Albanian": ("Ku është paketa ime dhe kur do të vijë? Faleminderit për ndihmën",),
    "Russian": (
        "Где моя посылка и когда она придёт?",
        "Фильм очень хороший, всем советую",
        "Сколько мельниц стояло тогда у реки",
        "Не могу войти в свой аккаунт со вчерашнего дня",
    ),
    "Ukrainian": (
        "Де моя посилка і коли вона прийде?",
        "Фільм дуже гарний, усім раджу",
        "Не можу увійти до свого облікового запису",
    ),
    "Bulgarian": (
        "Къде е моята пратка и кога ще пристигне?",
        "Филмът беше много добър, препоръчвам го на всички",
    ),
    "Serbian": (
        "Где је мој пакет и када ће стићи?",
        "Филм је био веома добар, препоручујем га свима",
    ),
    "Belarusian": ("Дзе мая пасылка і калі яна прыйдзе? Фільм вельмі добры, усім раю глядзець у кінатэатры ўвечары",),
    "Macedonian": ("Каде е мојата пратка и кога ќе пристигне? Ѓорѓи не дојде вчера",),
    "Greek": (
        "Πού είναι το δέμα μου και πότε θα έρθει;",
        "Η ταινία ήταν πολύ καλή, τη συνιστώ σε όλους",
        "Πόσοι μύλοι ήταν τότε στο ποτάμι",
    ),
    "Hebrew": (
        "איפה החבילה שלי ומתי היא תגיע",
        "הסרט היה טוב מאוד ואני ממליץ עליו לכולם",
    ),
    "Arabic": (
        "أين طردي ومتى سيصل إلى المدينة",
        "كان الفيلم جيدا جدا وأنصح به الجميع",
    ),
    "Japanese": (
        "当時、川のそばに風車はいくつありましたか",
        "荷物はどこですか、いつ届きますか",
    ),
    "Chinese": (
        "当时河边有多少风车，谁知道",
        "我的包裹在哪里，什么时候到",
    ),
    "Korean": (
        "그때 강가에 풍차가 몇 개 있었나요",
        "제 소포는 어디에 있고 언제 도착하나요",
    ),
    "Thai": ("พัสดุของฉันอยู่ที่ไหนและจะมาถึงเมื่อไหร่",),
    "Vietnamese": ("Gói hàng cua tôi o dâu và khi nào dên",),
    "Esperanto": ("Kie estas mia pakaĵo kaj kiam ĝi alvenos? Ĉu vi povas helpi, mi petas ŝin",),
    "Maltese": ("Fejn hu l-pakkett tiegħi u meta jasal? Ġurnata tajba, ċempilli żgur",),
    "Welsh": ("Ble mae fy mharsel, a phryd fydd yn cyrraedd y tŷ? Mae'r dŵr yn gynnes",),
    "Irish": ("Cá bhfuil mo bheart agus cathain a thiocfaidh sé? Tá mé ag fanacht ó inné",),
    "Faroese": ("Hvar er pakkin hjá mær og nær kemur hann? Tað er gott, takk fyri, ríðandi á ø",),
    "Basque": ("Non dago nire paketea, eta noiz iritsiko da Espainiatik? Señora andereño",),
    "Kazakh": ("Менің сәлемдемем қайда және қашан келеді",),
    "Azeri": ("Bağlamam haradadır və nə vaxt gələcək? Çox sağ olun, gözəl gün",),
    "English": (
        "The café on the résumé page was naïve",
        "It costs £30 at the Müller’s house – “really”",
    ),
}
READ = [  # languages with an encoding in which four sentences are enough
    *(("Polish", encoding) for encoding in ("cp1250", "iso-8859-2", "cp1257")),
    *(("Hungarian", encoding) for encoding in ("cp1250", "iso-8859-2")),
    *(("German", encoding) for encoding in ("cp1252", "iso-8859-1", "cp1250")),
    *((language, "cp1252") for language in ("French", "Spanish", "Portuguese", "Danish", "Icelandic", "Estonian")),
    *(("Russian", encoding) for encoding in ("cp1251", "koi8-r")),
    *((language, "cp1251") for language in ("Ukrainian", "Serbian")),
    ("Turkish", "cp1254"),
    ("Greek", "cp1253"),
    ("Hebrew", "cp1255"),
    ("Arabic", "cp1256"),
    ("Lithuanian", "cp1257"),
]


def detected(text: str, encoding: str) -> str | None:
    """The text as it is read after it was written in an encoding; None if it is a fault, or cannot be written."""
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        return None
    chosen = national_encoding(io.BytesIO(content))
    return None if chosen is None else content.decode(chosen)


@pytest.mark.parametrize(("language", "encoding"), READ)
def test_texts_in_usual_encodings_are_read(language: str, encoding: str) -> None:
    text = "\n".join(SENTENCES[language])
    assert detected(text, encoding) == text


@pytest.mark.parametrize("language", SENTENCES)
def test_no_text_is_read_wrong(language: str) -> None:
    for text in (*SENTENCES[language], "\n".join(SENTENCES[language])):
        for encoding in ENCODINGS:
            assert detected(text, encoding) in (None, text), encoding


@given(
    st.lists(st.sampled_from([s for part in SENTENCES.values() for s in part]), max_size=4), st.sampled_from(ENCODINGS)
)
def test_no_mixture_of_texts_is_read_wrong(sentences: list[str], encoding: str) -> None:
    text = "\n".join(sentences)
    assert detected(text, encoding) in (None, text)


def rows_of(path: Path, content: bytes) -> tuple[list[object], list[str]]:
    path.write_bytes(content)
    notes: list[str] = []
    rows = [row for _, row in read_rows(DataFile(path, None, "data", "csv", "auto", Columns()), notes.append)]
    return rows, notes


def test_the_encoding_of_a_table_is_reported(tmp_path: Path) -> None:
    texts = SENTENCES["Polish"]
    content = "".join(f"{text};{i}\n" for i, text in enumerate(("text", *texts)))
    rows, notes = rows_of(tmp_path / "rows.csv", content.encode("cp1250"))
    assert [row["text"] for row in rows if isinstance(row, dict)] == list(texts)
    assert notes == ["encoding cp1250", "table", "delimiter semicolon"]


def test_text_that_is_utf8_in_part_has_faults(tmp_path: Path) -> None:
    texts = ("text", *SENTENCES["Polish"])
    lines = [f"{text},{i}\n".encode("utf-8" if i == 3 else "cp1250") for i, text in enumerate(texts)]
    rows, notes = rows_of(tmp_path / "rows.csv", b"".join(lines))
    assert notes == ["table"]
    assert sum(isinstance(row, Fault) for row in rows) == len(texts) - 2
