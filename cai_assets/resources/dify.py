"""The client of Dify's Service API for workflow apps: one object for one app.

Thin: HTTP stands in `dify_http`, asking until a run has ended in `dify_asking`, what is known of runs in
`dify_runs`, the reading of streams in `dify_events`, the checks of inputs in `dify_inputs`, the errors in
`dify_errors`.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from pydantic import SecretStr

from cai_assets.failures import retrying
from cai_assets.resources.dify_asking import Asking
from cai_assets.resources.dify_errors import DifyPermanentError, DifyTransientError
from cai_assets.resources.dify_events import RunState, run_state
from cai_assets.resources.dify_http import DifyHttp, Timeouts
from cai_assets.resources.dify_inputs import FormField, InputFile, check_inputs, check_user, form_of
from cai_assets.resources.dify_runs import LogEntry, Runs, WorkflowResult, log_page, run_path_id

ResponseMode = Literal["streaming", "blocking"]


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file at Dify: its id (for `InputFile.upload_file_id`), name, size in bytes, extension, media type."""

    id: str
    name: str
    size: int
    extension: str
    mime_type: str | None


class DifyClient:
    """Client of one workflow app. Threads may share it; close it, or use it as a context manager.

    Args:
        base_url: the Service API's address, with /v1.
        api_key: the app's key (app-...).
        response_mode: `streaming` unless Dify stands behind something that does not let streams through.
        timeouts: see `Timeouts`.
        max_retries: further tries after a failure that can pass.
        retry_delay: seconds before the first of them, doubled each time.
        most_at_once: questions under way together, however many threads ask; None for no limit.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        *,
        response_mode: ResponseMode = "streaming",
        timeouts: Timeouts | None = None,
        max_retries: int = 5,
        retry_delay: float = 1.0,
        most_at_once: int | None = None,
    ) -> None:
        self._http = DifyHttp(base_url, api_key, timeouts or Timeouts())
        self._mode: ResponseMode = response_mode
        self._max_retries = max_retries
        self._retry_delay = retry_delay
        self._runs = Runs(most_at_once)
        self._lock = threading.Lock()
        self._form: tuple[FormField, ...] | None = None

    # -- what the app is

    def info(self) -> Mapping[str, Any]:
        """GET /info: name, description, tags, mode (`workflow`), author_name. Checks address and key.

        Raises:
            DifyPermanentError, DifyTransientError: as `dify_errors` tells them.
        """
        return self._get("/info")

    def parameters(self) -> Mapping[str, Any]:
        """GET /parameters: `user_input_form`, `file_upload`, `system_parameters`; errors as for `info`."""
        return self._get("/parameters")

    def form(self) -> tuple[FormField, ...]:
        """The inputs that the Start node declares; asked for once."""
        with self._lock:
            if self._form is None:
                self._form = form_of(self.parameters())
            return self._form

    def logs(
        self,
        *,
        user: str | None = None,
        keyword: str | None = None,
        status: Literal["succeeded", "failed", "stopped"] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        page: int = 1,
        limit: int = 20,
    ) -> tuple[list[LogEntry], int]:
        """GET /workflows/logs: one page of entries, and how many there are in all; errors as for `info`.

        Args:
            user: exactly this user's.
            keyword: its first 30 characters are looked for in inputs, outputs and users.
            status: Dify takes no other statuses here.
            created_after: runs from then on, with a time zone.
            created_before: runs until then.
            page: from 1.
            limit: at most 100.
        """
        found: tuple[list[LogEntry], int] = self._retrying()(
            log_page,
            self._http,
            user=user,
            keyword=keyword,
            status=status,
            created_after=created_after,
            created_before=created_before,
            page=page,
            limit=limit,
        )
        return found

    # -- runs

    def run(
        self,
        inputs: Mapping[str, Any],
        user: str,
        *,
        workflow_id: str | None = None,
        files: Sequence[InputFile] = (),
        response_mode: ResponseMode | None = None,
        allow_partial: bool = False,
    ) -> WorkflowResult:
        """POST /workflows/run (or /workflows/{workflow_id}/run) and wait for the run's end.

        Args:
            inputs: values for the Start node; checked against its form first.
            user: unique for this unit of work; each try adds ":1", ":2", ... so that Dify's log tells them
                apart.
            workflow_id: a certain published version instead of the newest.
            files: beside the inputs.
            response_mode: instead of the client's.
            allow_partial: whether `partial-succeeded` is a result.

        Raises:
            ConfigurationError: no call can succeed until something is put right.
            DifyPermanentError: this one cannot.
            DifyTransientError: it failed max_retries + 1 times for reasons that can pass.
            OutcomeUnknownError: a run was started and did not end before the deadline. The attribute
                `attempts` of any of these tells the runs that were asked for all the same.
        """
        check_user(f"{user}:{self._max_retries + 1}")
        check_inputs(inputs, self.form())
        body = {
            "inputs": dict(inputs),
            "response_mode": response_mode or self._mode,
            **({"files": [file.payload() for file in files]} if files else {}),
        }
        path = f"/workflows/{workflow_id}/run" if workflow_id else "/workflows/run"
        numbered = all(file.upload_file_id is None for file in files)
        return self._asking(
            user, path=path, body=body, allow_partial=allow_partial, numbered=numbered
        ).result()

    def result_of(self, workflow_run_id: str, user: str) -> WorkflowResult:
        """Wait for the end of a run that was started before, without asking again; errors as for `run`.

        Args:
            workflow_run_id: the run.
            user: under whom it was asked, with the number of the try (`Attempt.user`).
        """
        return self._asking(user).result_of(workflow_run_id, user)

    def adopt(
        self, user: str, asked_at: datetime, workflow_run_id: str | None = None
    ) -> WorkflowResult | None:
        """The result of a question that somebody asked before, and whose end was not seen.

        Its runs are looked for in Dify's log, until the time of grace since it was asked has passed; one that
        is under way is waited for. Nothing is asked again. A run that did not end within the total time since
        it was asked is taken for dead: Dify loses some, and says for ever that they are running.

        Args:
            user: as given to `run`; where the run is known, that of the try (`Attempt.user`).
            asked_at: when, with a time zone.
            workflow_run_id: the run, where it is known.

        Returns:
            None where nothing came of it, so that it may be asked anew.

        Raises:
            OutcomeUnknownError: a run is still under way and the time is not up. Others as for `run`; the
                attribute `attempts` of any of them tells the runs that were found and gave nothing.
        """
        return self._asking(user).adopt(asked_at, workflow_run_id)

    def run_detail(self, workflow_run_id: str) -> RunState:
        """GET /workflows/run/{id}: how a run stands; prices are not in it.

        Raises:
            NotFoundError: no such run in this app. Others as for `info`.
        """
        return run_state(self._get(f"/workflows/run/{run_path_id(workflow_run_id)}"))

    def stop(self, task_id: str, user: str) -> None:
        """POST /workflows/tasks/{task_id}/stop; errors as for `info`.

        Dify says success for any task, also unknown ones; whether the run ended, `run_detail` tells.
        """
        self._http.call("POST", f"/workflows/tasks/{task_id}/stop", json={"user": user})

    def cancel(self) -> None:
        """Stop all runs of this client and start no more; what waits for one raises `CancelledRunError`."""
        self._runs.cancelled.set()
        under_way = self._runs.under_way()

        def stop(user: str) -> None:
            # On the way out the others are to be stopped too, and a run left alone ends by itself.
            with suppress(DifyTransientError, DifyPermanentError):
                self.stop(under_way[user], user)

        if under_way:
            with ThreadPoolExecutor(min(8, len(under_way)), thread_name_prefix="dify-stop") as threads:
                list(threads.map(stop, under_way))

    def upload_file(self, name: str, content: bytes | BinaryIO, user: str, mime_type: str) -> UploadedFile:
        """POST /files/upload; only runs of the same user may use the file.

        Raises:
            FileRefusedError: too large (15 MB, images 10, audio 50, video 100 by default) or of a wrong type.
        """
        check_user(user)
        answer = self._http.call(
            "POST", "/files/upload", files={"file": (name, content, mime_type)}, data={"user": user}
        )
        return UploadedFile(
            str(answer["id"]),
            str(answer["name"]),
            int(answer["size"]),
            str(answer["extension"]),
            answer.get("mime_type"),
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asking(self, user: str, **options: Any) -> Asking:
        return Asking(
            self._http,
            self._runs,
            user,
            max_retries=self._max_retries,
            retry_delay=self._retry_delay,
            **options,
        )

    def _retrying(self) -> Any:
        return retrying(self._max_retries, self._retry_delay).copy(sleep=self._runs.sleep)

    def _get(self, path: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._retrying()(self._http.call, "GET", path)
        return answer
