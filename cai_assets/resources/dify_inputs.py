"""What a workflow's form asks for, and whether inputs fit it, told before anything is sent.

Dify's streaming mode answers a refused input with 300 seconds of silence (1.14.2), so the same checks are
made here first, from the form that GET /parameters gives. Nothing is sent from here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from cai_assets.resources.dify_errors import InvalidInputError

LONGEST_USER: Final = 255

_TEXT_TYPES: Final = ("text-input", "paragraph", "select")

FileKind = Literal["document", "image", "audio", "video", "custom"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file for a run: uploaded before by the same user (`upload_file_id`), or at an address (`url`)."""

    kind: FileKind
    upload_file_id: str | None = None
    url: str | None = None

    def payload(self) -> dict[str, str]:
        """The object that Dify takes, in `files` or as the value of a file variable.

        Raises:
            InvalidInputError: not exactly one of the two is given. Dify passes such entries over in silence.
        """
        if (self.upload_file_id is None) == (self.url is None):
            raise InvalidInputError("Dify: a file needs either an upload_file_id or a url")
        if self.url is not None:
            return {"type": self.kind, "transfer_method": "remote_url", "url": self.url}
        return {
            "type": self.kind,
            "transfer_method": "local_file",
            "upload_file_id": str(self.upload_file_id),
        }


@dataclass(frozen=True, slots=True)
class FormField:
    """One variable of the Start node.

    Attributes:
        variable: its name.
        type: `text-input`, `paragraph`, `select`, `number`, `checkbox`, `file`, `file-list`, ...
        required: whether it must be given.
        max_length: most characters, or None.
        options: the only values of a `select`.
    """

    variable: str
    type: str
    required: bool = False
    max_length: int | None = None
    options: tuple[str, ...] = ()


def form_of(parameters: Mapping[str, Any]) -> tuple[FormField, ...]:
    """The form in an answer of GET /parameters: `user_input_form: [{type: {variable, required, ...}}]`."""
    fields = []
    for entry in parameters.get("user_input_form") or ():
        for kind, declared in entry.items():
            limit = declared.get("max_length")
            fields.append(
                FormField(
                    variable=str(declared["variable"]),
                    type=str(declared.get("type") or kind),
                    required=bool(declared.get("required")),
                    max_length=limit if isinstance(limit, int) and limit > 0 else None,
                    options=tuple(str(option) for option in declared.get("options") or ()),
                )
            )
    return tuple(fields)


def check_inputs(inputs: Mapping[str, Any], form: Sequence[FormField]) -> None:
    """Make sure that the workflow will take these inputs.

    Raises:
        InvalidInputError: naming the variable and what is wrong, never its value. Inputs that the form does
            not have are refused too: Dify drops them in silence, and the answer would be about something
            else.
    """
    unknown = sorted(set(inputs) - {field.variable for field in form})
    if unknown:
        raise InvalidInputError(
            f"Dify: the workflow has no input {', '.join(unknown)}; its Start node declares "
            f"{', '.join(field.variable for field in form) or 'none'}"
        )
    for field in form:
        wrong = _problem(inputs.get(field.variable), field)
        if wrong:
            raise InvalidInputError(f"Dify: input {field.variable} {wrong}")


def _problem(value: object, field: FormField) -> str | None:
    if value is None or (value == "" and field.type != "number"):
        return "is required" if field.required else None
    if field.type in _TEXT_TYPES:
        if not isinstance(value, str):
            return f"must be text, not {type(value).__name__}"
        if field.type == "select" and value not in field.options:
            return f"must be one of {', '.join(field.options)}"
        if field.max_length is not None and len(value) > field.max_length:
            return f"has {len(value)} characters; its form allows {field.max_length}"
    elif field.type == "number" and not _is_number(value):
        return "must be a number"
    return None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def check_user(user: str) -> None:
    """Make sure that Dify will take this user.

    Raises:
        InvalidInputError: it is empty (400 at the server) or longer than 255 characters (500 at the server).
    """
    if not user or len(user) > LONGEST_USER:
        raise InvalidInputError(f"Dify: a user needs 1 to {LONGEST_USER} characters, not {len(user)}")
