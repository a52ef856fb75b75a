"""What tells who somebody is, taken out of texts: e-mail addresses, phone numbers, cards, IBANs, URLs' keys.

Pure and deterministic: a text gives the same text everywhere and always, and a masked text is masked already.
Where texts are masked belongs to `domain.lake` and to the enrichment; user ids are `domain.pseudonyms`'.

What is found is certain by its form, by a checksum (cards by Luhn's, IBANs modulo 97) or by the numbering
plan of a country (phonenumbers). Names and addresses of places are not found.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from cai_assets.settings import Settings

Mode: TypeAlias = Literal["off", "mask", "strict"]

KINDS = ("email", "phone", "card", "iban", "token", "number")
"""What is counted; a placeholder is the kind in brackets."""


def placeholder(kind: str) -> str:
    """What stands in place of an item."""
    return f"[{kind}]"


@dataclass
class Redactor:
    """Masks texts and counts what it masked; texts themselves are kept nowhere.

    Attributes:
        mode: `off` changes nothing; `mask` takes out what is certain; `strict` also every number of seven
            digits or more that is no date.
        regions: countries (ISO 3166, as "DE") by whose plans phone numbers without a country's code are told;
            a number must be grouped, or follow a word like "phone", as order numbers look the same otherwise.
        found: items by kind, of all that was masked since.
    """

    mode: Mode = "mask"
    regions: tuple[str, ...] = ()
    found: Counter[str] = field(default_factory=Counter)

    def column(self, texts: pa.Array) -> pa.Array:
        """A column of texts, masked; nulls stay null.

        Only texts that may hold something leave Arrow: most do not, and cost a hundredth.
        """
        if self.mode == "off" or not len(texts):
            return texts
        suspects = pc.fill_null(pc.match_substring_regex(texts, _SUSPECT_RE2), fill_value=False)
        if not pc.any(suspects).as_py():
            return texts
        masked = [self.text(text) for text in texts.filter(suspects).to_pylist()]
        return pc.replace_with_mask(texts, suspects, pa.array(masked, texts.type))

    def column_of_lists(self, lists: pa.ListArray) -> pa.ListArray:
        """A column of lists of texts, each masked."""
        if self.mode == "off" or not len(lists):
            return lists
        values = [None if one is None else [self._or_none(text) for text in one] for one in lists.to_pylist()]
        return pa.array(values, lists.type)

    def _or_none(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def text(self, text: str) -> str:
        """One text, masked."""
        if self.mode == "off" or not _SUSPECT.search(text):
            return text
        text = _URL.sub(self._url, text)
        if _AT_SIGN.search(text):
            text = self._counted("email", *_EMAIL.subn(placeholder("email"), text))
        if _HIDDEN_AT.search(text):
            text = self._counted("email", *_HIDDEN_EMAIL.subn(placeholder("email"), text))
        if not _NUMBERS.search(text):
            return text
        text = self._spans("iban", text, _ibans(text))
        text = self._spans("card", text, _cards(text))
        text = self._spans("phone", text, self._phones(text))
        if self.mode == "strict":
            text = self._spans("number", text, _long_numbers(text))
        return text

    def _counted(self, kind: str, text: str, count: int) -> str:
        if count:
            self.found[kind] += count
        return text

    def _spans(self, kind: str, text: str, spans: Iterator[tuple[int, int]]) -> str:
        parts: list[str] = []
        end = 0
        for start, stop in spans:
            parts += (text[end:start], placeholder(kind))
            end = stop
            self.found[kind] += 1
        return "".join((*parts, text[end:])) if parts else text

    # -- URLs

    def _url(self, match: re.Match[str]) -> str:
        url = match[0]
        scheme, authority, path, query, fragment = (match[name] or "" for name in _URL_PARTS)
        user, at, host = authority.rpartition("@")
        if at and user and user != placeholder("token"):
            authority = f"{placeholder('token')}@{host}"
            self.found["token"] += 1
        path = _SEGMENT.sub(self._segment, path)
        made = f"{scheme}{authority}{path}{self._pairs(query)}{self._pairs(fragment)}"
        return url if made == url else made

    def _segment(self, match: re.Match[str]) -> str:
        return self._token(match[0]) if _is_random(match[0], least=24) else match[0]

    def _pairs(self, text: str) -> str:
        return _PAIR.sub(self._pair, text) if text else text

    def _pair(self, match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        plain = unquote(value)
        if value.strip("[]") == "token" or not value:
            return match[0]
        if _SECRET_NAME.search(name) or _is_random(plain, least=20):
            return f"{name}={self._token(value)}"
        masked = self.text(plain) if plain != value and not _URL.search(plain) else plain
        return match[0] if masked == plain else f"{name}={masked}"

    def _token(self, _: str) -> str:
        self.found["token"] += 1
        return placeholder("token")

    # -- phone numbers

    @cached_property
    def _library(self) -> Any:
        import phonenumbers  # 0.1 s, and only where a text holds something like a number

        return phonenumbers

    def _phones(self, text: str) -> Iterator[tuple[int, int]]:
        for match in _PHONE.finditer(text):
            start, end = match.span()
            while end > start and not text[end - 1].isdigit():
                end -= 1
            whole = text[start:end]
            for first, last in self._candidates(whole):
                if self._is_phone(text, whole[first:last], start + first, start + last):
                    yield start + first, start + last

    @staticmethod
    def _candidates(whole: str) -> Iterator[tuple[int, int]]:
        """Numbers that stand side by side with only a space between are told apart at their plus signs."""
        starts = [0, *(match.start() for match in _PLUS.finditer(whole, 1))]
        for start, end in zip(starts, [*starts[1:], len(whole)], strict=True):
            stripped = whole[start:end].rstrip(" -./(\u00a0\t\n")
            if stripped:
                yield start, start + len(stripped)

    def _is_phone(self, text: str, candidate: str, start: int, end: int) -> bool:
        digits = digits_of(candidate)
        if not 7 <= len(digits) <= 17 or _looks_like_a_date(candidate) or _VERSION.search(candidate):
            return False
        if _PLUS.match(candidate.lstrip("(")):
            return self._known(f"+{digits}", None, possible=True)
        if digits.startswith("00") and self._known(f"+{digits[2:]}", None, possible=False):
            return True
        grouped = _GROUPED.search(candidate) is not None and not _is_amount(text, candidate, start, end)
        if not grouped and not _spoken_of(text[max(0, start - 32) : start]):
            return False
        return any(self._known(digits, region, possible=False) for region in self.regions)

    def _known(self, number: str, region: str | None, *, possible: bool) -> bool:
        library = self._library
        try:
            parsed = library.parse(number, region)
        except library.NumberParseException:
            return False
        if possible:
            return bool(library.is_possible_number(parsed))
        return bool(
            library.is_valid_number_for_region(parsed, region) if region else library.is_valid_number(parsed)
        )


def redactor_of(settings: Settings) -> Redactor:
    """A redactor as the settings say, which has counted nothing yet."""
    return Redactor(settings.redact_text, settings.redact_phone_regions)


def outgoing(settings: Settings) -> Callable[[str], str]:
    """What is done to a text before Dify sees it: masked as for the lake, unless REDACT_DIFY is off."""
    return redactor_of(settings).text if settings.redact_dify else _unchanged


def _unchanged(text: str) -> str:
    return text


def without_placeholders(text: str) -> str:
    """A masked text without what stands for the masked items."""
    return _PLACEHOLDER.sub(" ", text)


def digits_of(text: str) -> str:
    """The decimal digits of any script in a text, as ASCII."""
    return "".join(str(unicodedata.decimal(one)) for one in text if one.isdecimal())


def known_regions() -> frozenset[str]:
    """The countries whose numbering plans are known."""
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)


_PLACEHOLDER = re.compile(r"\[(?:" + "|".join(KINDS) + r")\]")

# -- what may be something at all, for Arrow (RE2) and for Python: an address, a link, or six digits with no
# more than seven other characters between two of them, as in an IBAN of Malta. Other texts are passed over.
_SEPARATORS = "\\s\u00a0\u2007\u202f\u200b-\u200f\u2010-\u2015\u2060\u2212\\-.·/()\\[\\]"
_SEPARATOR = f"[{_SEPARATORS}]"
_AT_OR_LINK = r"[@＠]|%40|(?i:[(\[{<][\s]{0,2}at[\s]{0,2}[)\]}>]|://|www\.)"
_DIGITS = rf"(?:\d[{_SEPARATORS}A-Za-z]{{0,7}}){{6}}"
_NUMBERS = re.compile(_DIGITS)
_SUSPECT = re.compile(f"{_AT_OR_LINK}|{_DIGITS}")
# RE2 knows as digits only those of ASCII, unless they are asked for by their category, and as blanks too.
_SUSPECT_RE2 = _SUSPECT.pattern.replace(r"\d", r"\p{Nd}").replace(r"\s", r"\s\p{Z}\x{85}\x{1c}-\x{1f}")

# -- e-mail addresses: the parts are bounded, so that no text makes the search quadratic.
_LOCAL = r"[\w.!#$%&'*+/=?^`{|}~\-]{1,64}"
_LABELS = r"(?:\w(?:[\w\-]{0,61}\w)?\.){1,8}(?:xn--[\w\-]{1,59}|[^\W\d_]{2,63})"
_AT_SIGN = re.compile("[@＠]|%40")
_EMAIL = re.compile(rf"(?:(?<=[\s<>(\[,;:\"'=/?&])|^|\b|(?<=\W)){_LOCAL}(?:[@＠]|%40){_LABELS}")
_AT, _DOT = (rf"\s{{0,3}}[(\[{{<]\s{{0,2}}{word}\s{{0,2}}[)\]}}>]\s{{0,3}}" for word in ("at", "dot"))
_HIDDEN_AT = re.compile(r"(?i)[(\[{<]\s{0,2}at\s{0,2}[)\]}>]")
_HIDDEN_EMAIL = re.compile(
    rf"(?i)\b[\w.+\-]{{1,64}}{_AT}(?:[\w\-]{{1,63}}(?:\.|{_DOT})){{1,8}}[^\W\d_]{{2,63}}"
)

# -- addresses of the web
_URL_PARTS = ("scheme", "authority", "path", "query", "fragment")
_URL = re.compile(
    r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.\-]{1,20}://|\bwww\.)(?P<authority>[^\s/?#<>\"]{1,300})"
    r"(?P<path>/[^\s?#<>\"]{0,2000})?(?P<query>\?[^\s#<>\"]{0,4000})?(?P<fragment>#[^\s<>\"]{0,4000})?"
)
_PAIR = re.compile(r"(?P<name>[^&;=?#]{1,100})=(?P<value>[^&;#]*)")
_SEGMENT = re.compile(r"[^/;,]{24,}")
_SECRET_NAME = re.compile(
    r"(?i)token|secret|passw|passwd|pwd|passcode|api[_\-]?key|access[_\-]?key|(?:^|[_\-.])key$|^sig$|signature"
    r"|credential|auth|session|(?:^|[_\-.])sid$|jwt|otp|^code$|^pin$|nonce|ticket|^hash$|^hmac$|assertion"
)
_RANDOM = re.compile(r"[A-Za-z0-9_\-.~+/=]+")


def _is_random(text: str, *, least: int) -> bool:
    """Whether a text looks drawn by chance: long, of letters and digits mixed, not words and numbers."""
    if len(text) < least or not _RANDOM.fullmatch(text):
        return False
    changes = sum(one.isdigit() != other.isdigit() for one, other in pairwise(text))
    letters = [one for one in text if one.isalpha()]
    mixed = any(one.isupper() for one in letters[1:]) and any(one.islower() for one in letters)
    return changes >= 4 or (mixed and changes >= 2 and "-" not in text)


# -- cards
_CARD_RUN = re.compile(rf"(?<![\w])\d(?:{_SEPARATOR}{{0,2}}\d){{11,80}}(?!\w)")
_DIGIT_GROUP = re.compile(r"\d+")
_CARD_KINDS: tuple[tuple[re.Pattern[str], frozenset[int]], ...] = tuple(
    (re.compile(prefix), frozenset(lengths))
    for prefix, lengths in (
        (r"4", (13, 16, 19)),  # Visa
        (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
        (r"3[47]", (15,)),  # American Express
        (r"6011|64[4-9]|65", range(16, 20)),  # Discover
        (r"30[0-5]|3[689]", range(14, 20)),  # Diners
        (r"352[89]|35[3-8]", range(16, 20)),  # JCB
        (r"62|81", range(16, 20)),  # UnionPay
        (r"50|5[6-8]|63|67|60", range(12, 20)),  # Maestro, RuPay
        (r"220[0-4]", range(16, 20)),  # Mir
    )
)


def luhn(digits: str) -> bool:
    """Whether Luhn's checksum of decimal digits holds."""
    total = 0
    for place, one in enumerate(reversed(digits)):
        value = int(one) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _is_card(digits: str) -> bool:
    return luhn(digits) and any(
        prefix.match(digits) and len(digits) in lengths for prefix, lengths in _CARD_KINDS
    )


def _cards(text: str) -> Iterator[tuple[int, int]]:
    """Cards are whole groups of digits: the longest that fit, from the left."""
    for run in _CARD_RUN.finditer(text):
        groups = [match.span() for match in _DIGIT_GROUP.finditer(text, *run.span())]
        first = 0
        while first < len(groups):
            found = next(
                (
                    last
                    for last in range(len(groups), first, -1)
                    if 12 <= sum(end - start for start, end in groups[first:last]) <= 19
                    and _is_card(digits_of(text[groups[first][0] : groups[last - 1][1]]))
                ),
                None,
            )
            if found is None:
                first += 1
            else:
                yield groups[first][0], groups[found - 1][1]
                first = found


# -- IBANs: the lengths of the registry (ISO 13616), without which a number's end cannot be told.
_IBAN_LENGTHS: dict[str, int] = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO FK GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV BF BJ CI ML SN", 29: "BR EG PS QA UA", 30: "JO KW MU YE",
        31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN_START = re.compile(rf"(?<![A-Za-z0-9])([A-Za-z]{{2}}){_SEPARATOR}{{0,2}}(\d){_SEPARATOR}?(\d)")


def iban_holds(iban: str) -> bool:
    """Whether the checksum of an IBAN without blanks holds (ISO 7064, modulo 97 gives 1)."""
    return int("".join(str(int(one, 36)) for one in iban[4:] + iban[:4])) % 97 == 1


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    end = 0
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match[1].upper())
        if length is None or match.start() < end:
            continue
        letters: list[str] = []
        place = match.start()
        gap = 0
        while place < len(text) and len(letters) < length and gap <= 2:
            one = text[place]
            if one.isascii() and one.isalnum():
                letters.append(one)
                gap = 0
            elif one.isdecimal():
                letters.append(digits_of(one))
                gap = 0
            elif re.match(_SEPARATOR, one):
                gap += 1
            else:
                break
            place += 1
        ends = place == len(text) or not text[place].isalnum()
        if len(letters) == length and ends and iban_holds("".join(letters).upper()):
            end = place
            yield match.start(), end


# -- phone numbers
_PLUS = re.compile(r"[+＋]\s?\(?\d")
_PHONE_GAP = (
    "(?:[\\s\u00a0\u2007\u202f\u200b-\u200f\u2060.·]"
    "|[\\s\u00a0]?[\\-\u2010-\u2015\u2212/()\\[\\]]{1,2}[\\s\u00a0]?)?"
)
_PHONE = re.compile(
    rf"(?<!\d:)(?<![\w.,/=#$€£¥₹%\[])(?:[+＋]\s?)?\(?\d(?:{_PHONE_GAP}[+＋]?\d){{6,40}}(?![\w%]|[.,]\d)"
)
_GROUPED = re.compile(r"\d[\s\u00a0\u2007\u202f\u2010-\u2015\u2212\-./()]+\d")
_PHONE_WORD = re.compile(
    r"(?i)(?:phone|\btel\b|telefon|telef|mobil|\bcell\b|handy|\bcall\b|\bcalling\b|whatsapp|\bsms\b|\bfax\b"
    r"|rufnummer|\bmy number\b|t[eé]l[eé]fono|llam|m[oó]vil|celular|portable|appel|cellulare|chiam|ligue"
    r"|телефон|звон"
    r"|电话|電話|手机|手機|携帯|هاتف|جوال|फ़ोन|फोन|전화)"
)
_UP_TO_A_DIGIT = re.compile(r".*\d", re.DOTALL)
_ONE_DATE = (
    r"(?:(?:19|20)\d\d[\-./ ](?:0?[1-9]|1[0-2])[\-./ ](?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])[\-./](?:0?[1-9]|[12]\d|3[01])[\-./](?:\d\d)?\d\d"
    r"|(?:0?[1-9]|[12]\d|3[01]) (?:0?[1-9]|[12]\d|3[01]) (?:19|20)\d\d)"
)
_DATE = re.compile(rf"{_ONE_DATE}(?:\s*[\-–./]\s*{_ONE_DATE})?(?:\s+\d{{1,2}})?")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_VERSION = re.compile(r"(?<!\d)\d\.\d|\d\.\d(?!\d)")
_AMOUNT = re.compile(r"\d{1,3}(?:[.,]\d{3})+|\d{1,3}(?:[\s\u00a0\u202f]\d{3})+")
_MONEY_BEFORE = re.compile(r"(?i)(?:[$€£¥₹₽₩]|\b(?:usd|eur|gbp|chf|inr|rs|jpy|cny)\.?)\s{0,2}$")
_MONEY_AFTER = re.compile(
    r"(?i)\s{0,2}(?:[$€£¥₹₽₩%]|(?:usd|eur|euros?|gbp|chf|inr|jpy|cny|dollars?|pounds?|rupees?|yen)\b)"
)


def _spoken_of(before: str) -> bool:
    """Whether the words before a number say that it is a phone's; another number in between breaks that."""
    return _PHONE_WORD.search(_UP_TO_A_DIGIT.sub("", before)) is not None


def _looks_like_a_date(candidate: str) -> bool:
    return _DATE.fullmatch(candidate) is not None or _IP.fullmatch(candidate) is not None


def _is_amount(text: str, candidate: str, start: int, end: int) -> bool:
    """Whether grouped digits are a sum of money or a count, not a phone number."""
    if _MONEY_BEFORE.search(text, max(0, start - 8), start) or _MONEY_AFTER.match(text, end):
        return True
    if _AMOUNT.fullmatch(candidate) is None:
        return False
    return "." in candidate or len(digits_of(candidate)) < 9


# -- long numbers, for `strict`
_LONG_NUMBER = re.compile(rf"(?<!\d)\d(?:{_SEPARATOR}?\d){{6,}}(?!\d)")


def _long_numbers(text: str) -> Iterator[tuple[int, int]]:
    return (match.span() for match in _LONG_NUMBER.finditer(text) if not _looks_like_a_date(match[0]))
