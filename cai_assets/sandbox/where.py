"""NocoDB's `where` language: text to a tree.

Only the grammar, as measured on 0.301.3: `(column,operator,value)`, joined by `~and` and `~or` (`~and` binds
tighter, as in the SQL NocoDB makes of it), negated by `~not`, nested by parentheses. Values are plain text up
to the closing parenthesis that balances the opening one; a leading `@` switches to the other grammar, in
which columns and values may stand in quotes. What a condition means for a column is decided in filters.py.
"""

from dataclasses import dataclass

# Aliases on the left; `ge`, `le` and `not` are NocoDB's own short forms.
OPERATORS = {
    "eq": "eq", "neq": "neq", "not": "neq", "gt": "gt", "gte": "gte", "ge": "gte", "lt": "lt", "lte": "lte",
    "le": "lte", "like": "like", "nlike": "nlike", "in": "in", "anyof": "anyof", "nanyof": "nanyof",
    "btw": "btw", "nbtw": "nbtw", "blank": "blank", "notblank": "notblank", "null": "null",
    "notnull": "notnull", "is": "is", "isnot": "isnot",
}  # fmt: skip


class FilterError(Exception):
    """A filter that NocoDB refuses.

    Attributes:
        status: of the answer.
        body: of the answer; NocoDB has two shapes, `{"msg"}` and `{"error", "message"}`.
    """

    def __init__(self, status: int, body: dict[str, str]) -> None:
        super().__init__(body.get("msg") or body.get("message"))
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Condition:
    """`(column,operator,value)`; `value` is None where none was given, `values` its parts between commas."""

    column: str
    operator: str
    value: str | None
    values: tuple[str, ...]


@dataclass(frozen=True)
class Both:
    """All of `parts` hold (`~and`)."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Either:
    """At least one of `parts` holds (`~or`)."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Negated:
    """`part` does not hold (`~not`)."""

    part: "Filter"


Filter = Condition | Both | Either | Negated


def parse(text: str) -> Filter | None:
    """The tree of a `where` value, or None for an empty one.

    Raises:
        FilterError: 422, malformed or with an unknown operator.
    """
    text = text.strip()
    if not text:
        return None
    quoted = text.startswith("@")
    parser = _Parser(text[1:] if quoted else text, quoted)
    tree = parser.expression()
    if parser.at != len(parser.text):
        raise _malformed()
    return tree


def _malformed() -> FilterError:
    return FilterError(422, {"msg": "Invalid filter format."})


class _Parser:
    def __init__(self, text: str, quoted: bool) -> None:
        self.text = text
        self.quoted = quoted
        self.at = 0

    def expression(self) -> Filter:
        alternatives: list[Filter] = []
        together = [self.term()]
        while True:
            if self._skip("~and"):
                together.append(self.term())
            elif self._skip("~or"):
                alternatives.append(_both(together))
                together = [self.term()]
            else:
                alternatives.append(_both(together))
                return alternatives[0] if len(alternatives) == 1 else Either(tuple(alternatives))

    def term(self) -> Filter:
        if self._skip("~not"):
            return Negated(self.term())
        if not self._skip("("):
            raise _malformed()
        if self.text.startswith(("(", "~not"), self.at):
            inner = self.expression()
            if not self._skip(")"):
                raise _malformed()
            return inner
        return self._quoted_condition() if self.quoted else self._plain_condition()

    def _skip(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def _plain_condition(self) -> Condition:
        start, depth = self.at, 1
        for at in range(start, len(self.text)):
            character = self.text[at]
            depth += (character == "(") - (character == ")")
            if depth == 0:
                self.at = at + 1
                column, *rest = self.text[start:at].split(",", 2)
                return _condition(column, rest[0] if rest else None, rest[1] if len(rest) > 1 else None, None)
        raise _malformed()

    def _quoted_condition(self) -> Condition:
        parts: list[str] = []
        while True:
            parts.append(self._quoted_part())
            if self._skip(")"):
                break
            if not self._skip(","):
                raise _malformed()
        values = parts[2:]
        value = ",".join(values) if values else None
        return _condition(parts[0], parts[1] if len(parts) > 1 else None, value, tuple(values))

    def _quoted_part(self) -> str:
        mark = self.text[self.at : self.at + 1]
        if mark not in ('"', "'") or not mark:
            end = self.at
            while end < len(self.text) and self.text[end] not in ",()":
                end += 1
            part, self.at = self.text[self.at : end], end
            return part
        characters: list[str] = []
        at = self.at + 1
        while at < len(self.text) and self.text[at] != mark:
            if self.text[at] == "\\" and at + 1 < len(self.text):
                at += 1
            characters.append(self.text[at])
            at += 1
        if at >= len(self.text):
            raise _malformed()
        self.at = at + 1
        return "".join(characters)


def _both(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Both(tuple(parts))


def _condition(
    column: str, operator: str | None, value: str | None, values: tuple[str, ...] | None
) -> Condition:
    if not column or not operator:
        raise _malformed()
    if operator not in OPERATORS:
        raise FilterError(422, {"msg": f"{operator} is not supported."})
    if values is None:
        values = tuple(value.split(",")) if value is not None else ()
    return Condition(column, OPERATORS[operator], value, values)
