"""What can go wrong between us and Dify, each a type of its own, and how a response becomes one of them.

The codes are those of Dify 1.14's Service API, seen on a running server. Two things it does not do as its
documentation says: the limit of concurrent requests comes as 400 `invalid_param`, told only by its text; and
a failed workflow is HTTP 200, told apart by the text of its error. Messages here never hold a key or what a
person wrote.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from cai_assets.domain.ledger import UNKNOWN, Usage
from cai_assets.failures import CaiError, PermanentError, TransientError

_SHOWN_CHARACTERS: Final = 300
# pydantic quotes the input that it refuses, which may be a message's text.
_QUOTED_INPUT: Final = re.compile(r"input_value=.*?(?=, input_type=|\]|$)", re.DOTALL)
_LIMIT_TEXT: Final = "too many requests"

# Texts of failed runs that may pass: limits, overload, lost connections of the server's own. Everything else
# (wrong credentials, code that raises, a value too long) fails again.
_PASSING: Final = re.compile(
    r"\b429\b|\b50[0234]\b|rate.?limit|too many requests|quota|overload|timed? ?out|timeout|time exceeded"
    r"|maximum execution time|connection|temporarily|unavailable|reached maximum retries|try again later",
    re.IGNORECASE,
)
# Texts that sound like the above and do not pass.
_LASTING: Final = re.compile(
    r"credential|api.?key|unauthori[sz]ed|forbidden|insufficient_quota", re.IGNORECASE
)


class DifyError(CaiError):
    """What every error of Dify tells beside its message.

    Attributes:
        status: HTTP status, or None where there was no response.
        code: Dify's code, as `invalid_param`; None where the body was none of Dify's.
        workflow_run_id: the run it is about, where there is one.
        usage: what that run used all the same.
        attempts: the runs that were asked for until then (`dify_runs.Attempt`), set where a call gives up.
        pending: whether a run of it may still be under way, or come to light; set likewise.
    """

    status: int | None = None
    code: str | None = None
    workflow_run_id: str | None = None
    usage: Usage = UNKNOWN
    attempts: tuple[Any, ...] = ()
    pending: bool = False


class DifyPermanentError(DifyError, PermanentError):
    """Asking the same again gives the same."""


class DifyTransientError(DifyError, TransientError):
    """May pass, and no run of ours is under way: the same may be asked again."""


class ConfigurationError(DifyPermanentError):
    """Every call fails until address, key or app are put right; the next text need not be asked."""


class AuthenticationError(ConfigurationError):
    """401 `unauthorized`: the key is wrong, revoked, or of another server."""


class AccessDeniedError(ConfigurationError):
    """403 `forbidden`: the app's API is switched off, or its workspace is archived."""


class NotFoundError(DifyPermanentError):
    """404 `not_found`: no such run, file or workflow in the app of this key; it may be another app's."""


class WrongAddressError(ConfigurationError):
    """404 that is not Dify's own, or a redirect: DIFY_BASE_URL does not lead to the Service API."""


class WrongAppError(ConfigurationError):
    """400 `not_workflow_app`, `not_chat_app`, `Workflow not published`: the key's app cannot be asked so."""


class ModelUnavailableError(ConfigurationError):
    """400 `provider_not_initialize`, `provider_quota_exceeded`, `model_currently_not_support`: Dify's model.

    Faults of models mostly come as failed runs in HTTP 200; these codes are those of faults before the run.
    """


class InvalidInputError(DifyPermanentError):
    """400 `invalid_param`, `bad_request`, 415, 405: this input, or the way it was sent, is refused."""


class FileRefusedError(InvalidInputError):
    """400 `no_file_uploaded`, `too_many_files`, "Invalid upload file"; 413; 415 for a file."""


class RateLimitedError(DifyTransientError):
    """429, or 400 with "Too many requests": no run was started."""


class ServerFailedError(DifyTransientError):
    """5xx: the server, or something before it, failed.

    Whether a run was started is unknown until the logs were looked through. 500 also stands for some faults
    of ours (a user over 255 characters, an object for a number), which is why retries are bounded.
    """


class ConnectionLostError(DifyTransientError):
    """No connection could be made, or it broke. No run of ours is known to be under way."""


class WorkflowFailedError(DifyPermanentError):
    """The run ended `failed` for a reason that stays: HTTP 200, told by the text of its error."""


class WorkflowInterruptedError(DifyTransientError):
    """The run ended `failed` or `stopped` for a reason that may pass: a limit, a timeout, a lost line."""


class WorkflowPausedError(DifyPermanentError):
    """The run waits for a person (`workflow_paused`), whom an unattended pipeline does not have."""


class PartialSuccessError(DifyPermanentError):
    """The run ended `partial-succeeded`: a node failed and its default stood in for it."""


class OutcomeUnknownError(DifyError, TransientError):
    """A run was started and its end could not be seen before the deadline.

    It may still succeed. Asking again now could pay twice; look at `workflow_run_id` first.

    Attributes:
        seen: whether Dify said of it, when the time was up, that it had not ended.
    """

    seen: bool = False


class NothingCameOfItError(DifyError, PermanentError):
    """A question that was asked before started runs, and none of them gave a result; it may be asked anew."""


DifyFailure = DifyPermanentError | DifyTransientError | OutcomeUnknownError


def shown(text: object, *secrets: str) -> str:
    """A server's text fit for a message: short, on one line, without secrets or quoted inputs."""
    line = " ".join(_QUOTED_INPUT.sub("input_value=...", str(text)).split())
    for secret in filter(None, secrets):
        line = line.replace(secret, "***")
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "..."


def error_body(content: bytes) -> Mapping[str, Any] | None:
    """The JSON object of an error response; None for HTML pages of proxies, empty bodies, and broken JSON."""
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, Mapping) else None


def error_of(
    status: int, content: bytes, what: str, *secrets: str, retry_after: float | None = None
) -> DifyFailure:
    """The typed error of a response that is no success.

    Args:
        status: HTTP status; redirects count, as they are never followed with the key.
        content: the body, whatever it is.
        what: the request in words, as "POST /workflows/run".
        secrets: never shown, wherever the server may repeat them.
        retry_after: seconds that the server asked to wait.
    """
    body = error_body(content)
    code = str(body["code"]) if body and body.get("code") else None
    # 413 comes with an empty message.
    said = shown(body.get("message") or "", *secrets) if body else ""
    error = _error(status, code, said, f"Dify: {what} gave {status}" + (f" {code}" if code else ""))
    error.status, error.code = status, code
    if isinstance(error, TransientError):
        error.retry_after = retry_after
    return error


def _error(status: int, code: str | None, said: str, start: str) -> DifyFailure:
    text = f"{start}: {said}" if said else start
    if code in ("provider_not_initialize", "provider_quota_exceeded", "model_currently_not_support"):
        return ModelUnavailableError(f"{text}; set the workflow's model up in Dify")
    if code == "completion_request_error":
        return WorkflowInterruptedError(text) if may_pass(said) else WorkflowFailedError(text)
    return _by_status(status, code, said, text)


def _by_status(status: int, code: str | None, said: str, text: str) -> DifyFailure:
    if status == 429 or (status == 400 and said.casefold().startswith(_LIMIT_TEXT)):
        return RateLimitedError(f"{text}; lower IO_THREADS or raise the app's limit of concurrent requests")
    if status >= 500:
        return ServerFailedError(text)
    if status == 401:
        return AuthenticationError(f"{text}; check the DIFY_*_API_KEY of this workflow (app-...)")
    if status == 403:
        return AccessDeniedError(f"{text}; switch the app's API access on in Dify")
    if 300 <= status < 400 or (status == 404 and code is None):
        return WrongAddressError(
            f"{text}; DIFY_BASE_URL must be the Service API's own address, ending in /v1"
        )
    if status == 404:
        return NotFoundError(text)
    if code in ("not_workflow_app", "not_chat_app", "app_unavailable"):
        return WrongAppError(f"{text}; the key must be that of a published workflow app")
    if said == "Workflow not published":
        return WrongAppError(f"{text}; publish the workflow in Dify")
    if status == 413 or code in (
        "no_file_uploaded",
        "too_many_files",
        "unsupported_file_type",
        "file_too_large",
    ):
        return FileRefusedError(text)
    if "upload file" in said or "file type" in said:
        return FileRefusedError(f"{text}; a file belongs to the user and the app that uploaded it")
    return InvalidInputError(text)


def may_pass(error_text: str) -> bool:
    """Whether the text of a failed run tells of something that passes by itself."""
    return bool(_PASSING.search(error_text)) and not _LASTING.search(error_text)


def run_error(
    status: str, error_text: str | None, workflow_run_id: str | None, usage: Usage, *secrets: str
) -> DifyFailure:
    """The typed error of a run that ended, and not as `succeeded`.

    Args:
        status: the run's: `failed`, `stopped`, `partial-succeeded`, `paused`.
        error_text: what Dify says of it.
        workflow_run_id: the run.
        usage: what it used.
        secrets: never shown.
    """
    said = shown(error_text or "no reason given", *secrets)
    where = f"Dify: workflow run {workflow_run_id or 'without an id'} {status}"
    error: DifyFailure
    if status == "partial-succeeded":
        error = PartialSuccessError(
            f"{where}: a node failed and its default stood in; see the run in Dify's log"
        )
    elif status == "paused":
        error = WorkflowPausedError(f"{where}: it waits for a person; a workflow for this pipeline must not")
    elif status == "stopped" or may_pass(error_text or ""):
        error = WorkflowInterruptedError(f"{where}: {said}")
    else:
        error = WorkflowFailedError(f"{where}: {said}")
    error.workflow_run_id, error.usage = workflow_run_id, usage
    return error
