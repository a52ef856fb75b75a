"""What is said of a text's language, and which account of it is believed."""

import pytest

from cai_assets.domain.languages import UNDETERMINED, Detection, detect, effective_language, primary_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where has my parcel gone? I ordered it two weeks ago.", "en"),
        ("Ich hätte gerne zwei Karten für die Vorstellung um acht Uhr.", "de"),
        ("¿Dónde está mi paquete? Lo pedí hace dos semanas.", "es"),
        ("Où est mon colis ? Je l'ai commandé il y a deux semaines.", "fr"),
        ("荷物はどこにありますか。二週間前に注文しました。", "ja"),
        ("我的包裹在哪里?我两周前订的。", "zh"),
        ("Где моя посылка? Я заказал её две недели назад.", "ru"),
        ("أين طردي؟ لقد طلبته قبل أسبوعين.", "ar"),
    ],
)
def test_sentences_are_told(text: str, language: str) -> None:
    found = detect(text)
    assert found.language == language
    assert 0.6 <= found.confidence <= 1


@pytest.mark.parametrize(
    "text", ["", "ok", "Danke!", "12345678901234", "👍👍👍", "https://example.org/eine/lange/adresse"]
)
def test_too_little_is_undetermined_without_confidence(text: str) -> None:
    assert detect(text) == Detection(UNDETERMINED, 0.0)


def test_address_in_a_text_does_not_decide() -> None:
    with_address = detect("Bitte schauen Sie hier nach: https://example.org/where/has/my/parcel/gone/please")
    assert with_address.language == "de"


def test_composed_and_decomposed_letters_give_the_same() -> None:
    assert detect("Ich h\u00e4tte gerne zwei Karten bitte") == detect(
        "Ich ha\u0308tte gerne zwei Karten bitte"
    )


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en-US", "en"),
        ("DE", "de"),
        ("zh_Hant_TW", "zh"),
        ("iw", "he"),
        ("nb-NO", "no"),
        ("fil", "tl"),
        ("und", None),
        ("English", None),
        ("", None),
        (None, None),
    ],
)
def test_tags_are_brought_to_their_language(tag: str | None, language: str | None) -> None:
    assert primary_language(tag) == language


@pytest.mark.parametrize(
    ("declared", "detected", "effective"),
    [("de-AT", "en", "en"), ("de-AT", "und", "de"), (None, "und", "und"), ("nonsense!", "und", "und")],
)
def test_detected_language_goes_before_the_declared_one(
    declared: str | None, detected: str, effective: str
) -> None:
    assert effective_language(declared, Detection(detected, 0.9)) == effective
