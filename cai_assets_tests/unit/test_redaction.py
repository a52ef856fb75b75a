"""What is taken out of texts and what stays: planted secrets never survive, ordinary numbers always do."""

import random
from datetime import date, timedelta

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_assets.domain.redaction import (
    KINDS,
    Redactor,
    digits_of,
    iban_holds,
    known_regions,
    luhn,
    without_placeholders,
)
from cai_assets.settings import Settings

REGIONS = Settings(_env_file=None).redact_phone_regions


def mask(text: str, mode: str = "mask") -> str:
    return Redactor(mode, REGIONS).text(text)  # type: ignore[arg-type]


# -- planted secrets

LETTERS = "abcdefghijklmnopqrstuvwxyzåßéж"
WORDS = st.lists(
    st.sampled_from(["hello", "my", "отправь", "سلام", "ok,", "请", "(see", "order", "is:"]), max_size=4
)


@st.composite
def emails(draw: st.DrawFn) -> str:
    local = draw(st.from_regex(r"\A[a-zA-Zé0-9][a-zA-Z0-9._%+\-]{0,20}[a-zA-Z0-9]\Z"))
    domain = draw(
        st.from_regex(r"\A([a-zäж0-9][a-z0-9\-]{0,10}[a-z0-9]\.){1,3}(com|de|travel|рф|xn--p1ai)\Z")
    )
    return f"{local}@{domain}"


def checked(prefix: str, length: int, dice: random.Random) -> str:
    digits = prefix + "".join(str(dice.randrange(10)) for _ in range(length - len(prefix) - 1))
    return next(digits + str(last) for last in range(10) if luhn_by_hand(digits + str(last)))


def luhn_by_hand(digits: str) -> bool:
    doubled = [int(one) * 2 for one in digits[-2::-2]]
    plain = [int(one) for one in digits[-1::-2]]
    return (sum(plain) + sum(sum(divmod(one, 10)) for one in doubled)) % 10 == 0


def grouped(text: str, size: int, separator: str) -> str:
    return separator.join(text[start : start + size] for start in range(0, len(text), size))


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix, length = draw(
        st.sampled_from(
            [("4", 16), ("51", 16), ("2221", 16), ("37", 15), ("6011", 16), ("36", 14), ("62", 19)]
        )
    )
    number = checked(prefix, length, random.Random(draw(st.integers(0, 10**9))))
    return grouped(number, 4, draw(st.sampled_from(["", " ", "-", "\u00a0", "."])))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country, shape = draw(
        st.sampled_from(
            [
                ("DE", r"\A[0-9]{18}\Z"),
                ("GB", r"\A[A-Z]{4}[0-9]{14}\Z"),
                ("FR", r"\A[0-9]{10}[A-Z0-9]{11}[0-9]{2}\Z"),
                ("NO", r"\A[0-9]{11}\Z"),
                ("ES", r"\A[0-9]{20}\Z"),
                ("MT", r"\A[A-Z]{4}[0-9]{5}[A-Z0-9]{18}\Z"),
            ]
        )
    )
    body = draw(st.from_regex(shape))
    number = int(
        "".join(str("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(one)) for one in body + country + "00")
    )
    iban = f"{country}{98 - number % 97:02}{body}"
    iban = iban.lower() if draw(st.booleans()) else iban
    return grouped(iban, 4, draw(st.sampled_from(["", " "])))


@st.composite
def phones(draw: st.DrawFn) -> str:
    region = draw(st.sampled_from(sorted(REGIONS)))
    example = phonenumbers.example_number_for_type(
        region,
        draw(st.sampled_from([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])),
    )
    form = draw(st.sampled_from(["international", "e164", "national", "spoken"]))
    if form == "e164":
        return str(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164))
    if form == "international":
        return str(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.INTERNATIONAL))
    national = str(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL))
    if form == "spoken" or national.isdigit():
        return f"phone: {digits_of(national)}"
    return national


@st.composite
def addresses(draw: st.DrawFn) -> str:
    token = draw(st.from_regex(r"\A([a-f][0-9][A-Z]){8,12}\Z"))
    form = draw(
        st.sampled_from(
            [
                "https://example.com/x?token={}&page=2",
                "http://user:{}@example.com/",
                "https://example.com/reset/{}",
                "https://example.com/#access_token={}",
                "www.example.com/?a=1&sig={}",
                "https://example.com/?q={}",
            ]
        )
    )
    return form.format(token)


@given(WORDS, st.one_of(emails(), cards(), ibans(), phones(), addresses()), WORDS)
@settings(max_examples=400, deadline=None)
def test_no_planted_secret_survives(before: list[str], secret: str, after: list[str]) -> None:
    text = " ".join([*before, secret, *after])
    masked = mask(text)
    assert secret not in masked
    kept = digits_of(without_placeholders(masked))
    digits = digits_of(secret)
    if "@" not in secret and "//" not in secret and "www" not in secret:
        assert digits not in kept
    if "//" in secret or "www" in secret:
        token = max(
            secret.replace("?", "=")
            .replace("/", "=")
            .replace("@", "=")
            .replace(":", "=")
            .replace("&", "=")
            .split("="),
            key=len,
        )
        assert token not in masked
    for word in (*before, *after):
        assert word in masked
    assert mask(masked) == masked, "masked texts are masked already"


@given(st.lists(st.one_of(emails(), cards(), phones(), ibans()), min_size=2, max_size=4))
@settings(max_examples=100, deadline=None)
def test_secrets_side_by_side_all_go(secrets: list[str]) -> None:
    masked = mask(", ".join(secrets))
    assert not [one for one in secrets if one in masked]


# -- what stays


@st.composite
def ordinary(draw: st.DrawFn) -> str:
    day = date(2000, 1, 1) + timedelta(days=draw(st.integers(0, 20_000)))
    number = draw(st.integers(0, 10**9))
    order = draw(st.integers(10**6, 10**12 - 1))
    return draw(
        st.sampled_from(
            [
                day.isoformat(),
                f"{day.day}.{day.month}.{day.year}",
                f"{day.month}/{day.day}/{day.year}",
                f"{day.isoformat()} 10:31:07.123456",
                f"{day.isoformat()} - {(day + timedelta(days=3)).isoformat()}",
                f"${number:,}.99",
                f"{number:,} EUR".replace(",", "."),
                f"{number:,} euros".replace(",", " "),
                f"{number % 10**6 / 100:.2f}",
                f"order {order}",
                f"order number {order}",
                f"#{order}",
                f"ORD-{order}",
                f"AB{order}X",
                f"{order % 100}x{number % 100} cm",
                "192.168.100.200",
                "version 10.4.12.8831",
                "from 10:30 to 11:45",
                f"https://example.com/orders/{order}?page=2&sort=price",
                f"https://example.com/blue-shoes-for-the-summer-of-{day.year}-and-later",
                "@someone and @someone_else at 5 pm",
                f"{number % 90 + 10} people, {number % 7} times",
            ]
        )
    )


@given(WORDS, st.lists(ordinary(), min_size=1, max_size=3), WORDS)
@settings(max_examples=400, deadline=None)
def test_ordinary_numbers_prices_dates_and_orders_stay(
    before: list[str], things: list[str], after: list[str]
) -> None:
    text = ", ".join([*before, *things, *after])
    assert mask(text) == text


@given(st.integers(10**15, 10**16 - 1))
def test_a_long_number_that_fails_the_checksum_stays(number: int) -> None:
    text = f"parcel {number}"
    assert (mask(text) == text) is not (luhn_by_hand(str(number)) and "[card]" in mask(text))


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_masked_and_only_once(text: str) -> None:
    for mode in ("mask", "strict"):
        masked = mask(text, mode)
        assert mask(masked, mode) == masked
    assert mask(text, "off") == text


# -- examples


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail John.Doe+x@mail.example.co.uk!", "mail [email]!"),
        ("john (at) example (dot) com", "[email]"),
        ("?email=john%40example.com", "[email]"),
        ("card 4111 1111 1111 1111 12/28 cvc", "card [card] 12/28 cvc"),
        ("order 1234 4111-1111-1111-1111", "order 1234 [card]"),
        ("DE89 3704 0044 0532 0130 00 and then", "[iban] and then"),
        ("DE88 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
        ("gb82west12345698765432!", "[iban]!"),
        ("call +49 30 1234567 now", "call [phone] now"),
        ("+1 (212) 555-0123 +44 20 7946 0958", "[phone] [phone]"),
        ("their number is (916) 567-0606. 2011 nissan", "their number is [phone]. 2011 nissan"),
        ("06 12 34 56 78", "[phone]"),
        ("٠٣٠ ١٢٣٤٥٦٧", "[phone]"),
        ("2125550187", "2125550187"),
        ("my number is 2125550187", "my number is [phone]"),
        ("born 2/10/1026", "born 2/10/1026"),
        ("https://u:p@h.com/a?token=abc&page=2#b", "https://[token]@h.com/a?token=[token]&page=2#b"),
        ("https://h.com/?mail=a%40b.com&q=x", "https://h.com/?mail=[email]&q=x"),
        ("", ""),
    ],
)
def test_examples(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_strict_takes_every_long_number_but_dates() -> None:
    text = "order 2125550187 of 2024-05-03, ref 123456789, 123456"
    assert mask(text, "strict") == "order [number] of 2024-05-03, ref [number], 123456"


def test_regions_decide_about_numbers_without_a_countrys_code() -> None:
    text = "030 12345678"
    assert Redactor("mask", ("DE",)).text(text) == "[phone]"
    assert Redactor("mask", ()).text(text) == text
    assert Redactor("mask", ()).text("+49 30 12345678") == "[phone]"
    assert set(REGIONS) <= known_regions()


def test_columns_are_masked_as_their_texts_are_and_counted() -> None:
    texts = ["a@b.com", None, "plain", "+49 30 1234567 or a@b.com", ""]
    redactor = Redactor("mask", REGIONS)
    column = pa.chunked_array([pa.array(texts, pa.string())]).combine_chunks()
    made = redactor.column(column)
    assert made.to_pylist() == ["[email]", None, "plain", "[phone] or [email]", ""]
    assert redactor.found == {"email": 2, "phone": 1}
    assert set(redactor.found) <= set(KINDS)
    assert Redactor("off").column(column) is column


@given(
    st.lists(st.none() | st.one_of(st.text(), emails(), cards(), ibans(), phones(), addresses(), ordinary()))
)
@settings(max_examples=150, deadline=None)
def test_arrow_passes_over_no_text_that_holds_something(texts: list[str | None]) -> None:
    column = pa.array(
        [None if one is None else one.encode("utf-8", "ignore").decode() for one in texts], pa.string()
    )
    made = Redactor("mask", REGIONS).column(column).to_pylist()
    assert made == [None if one is None else mask(one) for one in column.to_pylist()]


def test_checksums_agree_with_published_examples() -> None:
    assert luhn("4111111111111111")
    assert not luhn("4111111111111112")
    assert iban_holds("GB82WEST12345698765432")
    assert not iban_holds("GB82WEST12345698765433")
