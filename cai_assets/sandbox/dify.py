"""Dify's Service API for workflows, as measured on 1.14.2: keys, checks, bodies, errors, streams.

HTTP only: what a workflow does is in workflows.py and answers.py. A plain ASGI application without a framework's
requests and responses, as a run must cost well under a millisecond.
"""

import asyncio
import email
import email.policy
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Literal
from urllib.parse import parse_qs
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from cai_assets.sandbox.answers import Translator, categoriser
from cai_assets.sandbox.config import CATEGORY_KEY, TRANSLATION_KEY, SandboxConfig
from cai_assets.sandbox.faults import DIFY_KINDS, Faults, Receive, Rule, Scope, Send, cut
from cai_assets.sandbox.workflows import (
    PING,
    App,
    Bend,
    Run,
    Variable,
    finished_data,
    result,
    work,
)

Header = tuple[bytes, bytes]

MAX_USER_CHARACTERS = 255
MAX_UPLOAD_BYTES = 15 * 1024 * 1024
# Older runs are forgotten: 200,000 of them hold about half a gigabyte.
MOST_RUNS = 200_000
_VERSION: list[Header] = [(b"x-version", b"1.14.2"), (b"x-env", b"PRODUCTION"), (b"vary", b"Cookie")]
_COMMON: list[Header] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"X-Env, X-Trace-Id, X-Version"),
    *_VERSION,
]
_JSON: Header = (b"content-type", b"application/json")
_STREAM: Header = (b"content-type", b"text/event-stream; charset=utf-8")
_NOT_FOUND_PAGE = (
    b"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    b"<p>The requested URL was not found on the server. If you entered the URL manually please check your "
    b"spelling and try again.</p>\n"
)
_CUTS = ("cut_before", "cut_after", "cut_late")
_DOCUMENTS = frozenset(
    [
        "txt",
        "md",
        "mdx",
        "markdown",
        "pdf",
        "html",
        "htm",
        "xlsx",
        "xls",
        "docx",
        "doc",
        "csv",
        "eml",
        "msg",
        "pptx",
        "ppt",
        "xml",
        "epub",
        "json",
    ]
)
_IMAGES = frozenset(["jpg", "jpeg", "png", "webp", "gif", "svg"])


class WorkflowRunPayload(BaseModel):
    """The body of a run; the name stands in Dify's own error texts."""

    inputs: dict[str, Any]
    files: list[dict[str, Any]] | None = None
    response_mode: Literal["blocking", "streaming"] | None = None


class WorkflowLogQuery(BaseModel):
    """The query of the logs; the name stands in Dify's own error texts."""

    keyword: str | None = None
    status: Literal["succeeded", "failed", "stopped"] | None = None
    created_at__before: datetime | None = None
    created_at__after: datetime | None = None
    created_by_end_user_session_id: str | None = None
    created_by_account: str | None = None
    page: int = Field(1, ge=1, le=99999)
    limit: int = Field(20, ge=1, le=100)


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _UnknownError(Exception):
    """A fault of the request that Dify answers with 500 `unknown`."""


@dataclass(frozen=True)
class _Asked:
    """One request after its key was checked."""

    app: App
    method: str
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    body: bytes
    scope: Scope
    send: Send

    def document(self) -> dict[str, Any]:
        """The JSON body, with a user in it."""
        if not self.headers.get(b"content-type", b"").split(b";")[0].strip().endswith(b"json"):
            raise _RefusedError(
                415,
                "unsupported_media_type",
                "Did not attempt to load JSON data because the request Content-Type was not 'application/json'.",
            )
        try:
            body = json.loads(self.body)
        except ValueError as error:
            raise _RefusedError(
                400,
                "bad_request",
                "The browser (or proxy) sent a request that this server could not understand.",
            ) from error
        if not isinstance(body, dict):
            raise _UnknownError
        body["user"] = _user(body.get("user"))
        return body


class Dify:
    """The Dify service: an ASGI application with two published workflows, told apart by their API keys."""

    def __init__(self, parallel: pa.Table, faults: Faults, config: SandboxConfig) -> None:
        translator = Translator(parallel)
        self._faults = faults
        self._config = config
        self._parallel = len(translator)
        self._apps = {app.key: app for app in (_translation_app(translator), _category_app())}
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._by_user: dict[tuple[str, str], list[str]] = {}
        self._user_ids: dict[tuple[str, str], str] = {}
        self._uploads: dict[str, tuple[str, str, str]] = {}
        self._active: Counter[str] = Counter()
        self._counts: dict[str, Counter[str]] = {app.name: Counter() for app in self._apps.values()}
        self._workers = asyncio.Semaphore(config.workers) if config.workers else None
        # Tasks are kept here, or the event loop would forget a run nobody waits for.
        self._tasks: set[asyncio.Task[Run]] = set()

    def describe(self) -> dict[str, Any]:
        """Keys, ids and how many runs ended how, for `/sandbox/info`."""
        return {
            "parallel_texts": self._parallel,
            "apps": {
                app.name: {
                    "id": app.id,
                    "key": app.key,
                    "workflow_id": app.workflow_id,
                    "runs": dict(sorted(self._counts[app.name].items())),
                }
                for app in self._apps.values()
            },
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/v1")
        headers = dict(scope["headers"])
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        methods = self._endpoints(path)
        try:
            if not methods:
                await _send(
                    send, 404, _NOT_FOUND_PAGE, [(b"content-type", b"text/html; charset=utf-8"), *_VERSION]
                )
                return
            endpoint = methods.get(scope["method"])
            if endpoint is None:
                raise _RefusedError(
                    405, "method_not_allowed", "The method is not allowed for the requested URL."
                )
            query = {
                name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()
            }
            app = self._authenticate(headers)
            await endpoint(_Asked(app, scope["method"], query, headers, body, scope, send))
        except _RefusedError as refused:
            await _send_error(send, refused)
        except (_UnknownError, UnicodeEncodeError):
            answer = b'{"message":"Internal Server Error","code":"unknown","status":500}\n'
            await _send(send, 500, answer, [_JSON, *_COMMON])

    def _endpoints(self, path: str) -> Mapping[str, Callable[[_Asked], Awaitable[None]]]:
        """The methods a path answers to; none: no such path."""
        if path == "/workflows/run":
            return {"POST": self._run}
        parts = path.strip("/").split("/")
        fixed = _FIXED.get(path)
        if fixed is not None:
            method, name = fixed
            return {method: getattr(self, name)}
        match parts:
            case ["workflows", "run", run_id]:
                return {"GET": lambda asked: self._get_run(asked, run_id)}
            case ["workflows", "tasks", task_id, "stop"]:
                return {"POST": lambda asked: self._stop(asked, task_id)}
            case ["workflows", workflow_id, "run"]:
                return {"POST": lambda asked: self._run_by_id(asked, workflow_id)}
            case ["workflow", run_id, "events"]:
                return {"GET": lambda asked: self._events(asked, run_id)}
        return {}

    def _authenticate(self, headers: Mapping[bytes, bytes]) -> App:
        given = headers.get(b"authorization", b"").decode("latin-1")
        scheme, _, key = given.partition(" ")
        if not key:
            message = "Authorization header must be provided and start with 'Bearer'"
            raise _RefusedError(401, "unauthorized", message)
        if scheme.lower() != "bearer":
            raise _RefusedError(401, "unauthorized", "Authorization scheme must be 'Bearer'")
        app = self._apps.get(key.strip())
        if app is None:
            raise _RefusedError(401, "unauthorized", "Access token is invalid")
        return app

    # -- runs

    async def _run_by_id(self, asked: _Asked, workflow_id: str) -> None:
        if not _is_uuid(workflow_id):
            raise _RefusedError(400, "bad_request", f"Invalid workflow_id format: '{workflow_id}'. ")
        if workflow_id != asked.app.workflow_id:
            raise _RefusedError(404, "not_found", f"Workflow not found with id: {workflow_id}")
        await self._run(asked)

    async def _run(self, asked: _Asked) -> None:
        body = asked.document()
        try:
            payload = WorkflowRunPayload.model_validate(body)
        except ValidationError as error:
            raise _RefusedError(400, "invalid_param", str(error)) from error
        streaming = payload.response_mode == "streaming"
        app, user = asked.app, body["user"]
        rule = self._faults.draw("dify", DIFY_KINDS, asked.scope["path"]) if self._faults.rules else None
        self._check_limit(app, streaming, rule)
        self._check_files(app, user, payload.files or [])
        problem = app.problem(payload.inputs)
        if problem is not None and not streaming:
            raise _RefusedError(400, "invalid_param", problem)
        if problem is not None or (rule is not None and rule.kind == "hang"):
            await self._hang(asked, streaming)
            return
        run = Run(app, user, self._user_id(app, user), app.inputs(payload.inputs))
        bend = Bend(rule.kind, rule.error) if rule is not None else Bend()
        if self._config.latency > 0 or (streaming and self._workers is not None):
            task = asyncio.create_task(self._work(run, bend, streaming))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            told = None if streaming else await task
        else:
            told = await self._work(run, bend, streaming=False)
        if streaming:
            await self._stream(asked, run, rule)
        elif rule is not None and rule.kind in _CUTS:
            await cut(asked.scope)
        else:
            answer = json.dumps(result(told or run)).encode()
            content_type = (b"content-type", b"application/json; charset=utf-8")
            await _send(asked.send, 200, answer, [content_type, *_COMMON])

    async def _work(self, run: Run, bend: Bend, streaming: bool) -> Run:
        self._active[run.app.id] += 1
        try:
            if not streaming or self._workers is None:
                return await self._begin(run, bend)
            async with self._workers:
                return await self._begin(run, bend)
        finally:
            self._active[run.app.id] -= 1
            self._counts[run.app.name][run.status] += 1

    async def _begin(self, run: Run, bend: Bend) -> Run:
        # A queued run has no row: it can be found from `workflow_started` on.
        self._runs[run.id] = run
        self._by_user.setdefault((run.app.id, run.user), []).append(run.id)
        if len(self._runs) > MOST_RUNS:
            _, old = self._runs.popitem(last=False)
            self._by_user[old.app.id, old.user].remove(old.id)
        told = await work(run, self._config.latency, bend)
        return told

    async def _stream(self, asked: _Asked, run: Run, rule: Rule | None) -> None:
        """Send a run's events. A run that has ended goes out in one piece, as fast as the client reads."""
        kind = rule.kind if rule is not None else ""
        frames = run.frames
        await asked.send({"type": "http.response.start", "status": 200, "headers": [_STREAM, *_COMMON]})
        await asked.send({"type": "http.response.body", "body": PING, "more_body": True})
        if kind == "cut_before":
            await cut(asked.scope)
            return
        if run.done and kind not in _CUTS:
            if kind == "duplicate_events":
                frames = [frame for frame in frames for _ in range(2)]
            await asked.send({"type": "http.response.body", "body": b"".join(frames)})
            run.frames = []
            return
        async for frame in run.follow(0, self._config.ping_seconds):
            if kind == "cut_late" and run.done and frame is frames[-1]:
                await cut(asked.scope)
                return
            sent = frame * 2 if kind == "duplicate_events" else frame
            await asked.send({"type": "http.response.body", "body": sent, "more_body": True})
            if kind == "cut_after":
                await cut(asked.scope)
                return
        await asked.send({"type": "http.response.body", "body": b""})
        run.frames = []

    async def _hang(self, asked: _Asked, streaming: bool) -> None:
        """A stream that never says anything, as after inputs that the worker refuses."""
        if streaming:
            await asked.send({"type": "http.response.start", "status": 200, "headers": [_STREAM, *_COMMON]})
            await asked.send({"type": "http.response.body", "body": PING, "more_body": True})
        await asyncio.sleep(self._config.hang_seconds)
        if streaming:
            await asked.send({"type": "http.response.body", "body": b""})
        else:
            await cut(asked.scope)

    def _check_limit(self, app: App, streaming: bool, rule: Rule | None) -> None:
        """The app's limit; measured: with a limit of 1 every stream is refused.

        Dify 1.14.2 frees a stream's slot before its run begins, so that larger limits do not hold for streams
        (a known defect); here they do.
        """
        limit = self._config.concurrency_limit
        above = limit > 0 and (self._active[app.id] >= limit or (streaming and limit == 1))
        if above or (rule is not None and rule.kind == "too_many"):
            raise _RefusedError(
                400,
                "invalid_param",
                "Too many requests. Please try again later. The current maximum concurrent requests allowed for "
                f"{app.id} is {limit or 1}.",
            )

    def _check_files(self, app: App, user: str, files: list[dict[str, Any]]) -> None:
        for file in files:
            if file.get("transfer_method") != "local_file":
                continue
            uploaded = self._uploads.get(str(file.get("upload_file_id")))
            if uploaded is None or uploaded[:2] != (app.id, user):
                raise _RefusedError(400, "invalid_param", "Invalid upload file")
            if file.get("type") not in (uploaded[2], "custom"):
                message = "Detected file type does not match the specified type. Please verify the file."
                raise _RefusedError(400, "invalid_param", message)

    def _found(self, app: App, run_id: str, message: str) -> Run:
        run = self._runs.get(run_id)
        if run is None or run.app is not app:
            raise _RefusedError(404, "not_found", message)
        return run

    async def _get_run(self, asked: _Asked, run_id: str) -> None:
        if not _is_uuid(run_id):
            raise _UnknownError
        run = self._found(asked.app, run_id, "Workflow run not found.")
        inputs = {**run.system_inputs(), "sys.timestamp": run.created_at}
        body = {
            "id": run.id,
            "workflow_id": run.app.workflow_id,
            "status": run.status,
            "inputs": json.dumps(inputs),
            "outputs": run.outputs,
            "error": run.error,
            "total_steps": run.steps,
            "total_tokens": run.tokens,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
            "elapsed_time": run.elapsed,
        }
        await _send_json(asked.send, 200, body)

    async def _events(self, asked: _Asked, run_id: str) -> None:
        user = _user(asked.query.get("user"))
        run = self._found(asked.app, run_id, "Workflow run not found")
        if run.user != user:
            raise _RefusedError(404, "not_found", "Workflow run not found")
        headers = [(b"cache-control", b"no-cache"), _STREAM, *_COMMON]
        await asked.send({"type": "http.response.start", "status": 200, "headers": headers})
        if run.done:
            # Measured: one event, printed by another encoder than a live stream's, with the run's id as the task's.
            body = {"event": "workflow_finished", "task_id": run.id, "workflow_run_id": run.id}
            frame = f"data: {json.dumps({**body, 'data': finished_data(run)})}\n\n".encode()
            await asked.send({"type": "http.response.body", "body": frame})
            return
        await asked.send({"type": "http.response.body", "body": PING, "more_body": True})
        start = 0 if asked.query.get("include_state_snapshot") == "true" else len(run.frames)
        async for frame in run.follow(start, self._config.ping_seconds):
            await asked.send({"type": "http.response.body", "body": frame, "more_body": True})
        await asked.send({"type": "http.response.body", "body": b""})

    async def _stop(self, asked: _Asked, task_id: str) -> None:
        """Always `success`, also for an unknown task or another user's, as measured."""
        asked.document()
        for run in reversed(self._runs.values()):
            if run.task_id == task_id and run.app is asked.app and run.stop is not None:
                run.stop.set()
                break
        await _send_json(asked.send, 200, {"result": "success"})

    async def _logs(self, asked: _Asked) -> None:
        try:
            query = WorkflowLogQuery.model_validate(dict(asked.query))
        except ValidationError as error:
            raise _RefusedError(400, "invalid_param", str(error)) from error
        session = query.created_by_end_user_session_id
        if session is not None:
            runs = [self._runs[run_id] for run_id in reversed(self._by_user.get((asked.app.id, session), []))]
        else:
            runs = [run for run in reversed(self._runs.values()) if run.app is asked.app]
        runs = [run for run in runs if _matches(run, query)]
        start = (query.page - 1) * query.limit
        body = {
            "page": query.page,
            "limit": query.limit,
            "total": len(runs),
            "has_more": len(runs) > start + query.limit,
            "data": [_log_row(run) for run in runs[start : start + query.limit]],
        }
        await _send_json(asked.send, 200, body)

    # -- the app itself

    async def _info(self, asked: _Asked) -> None:
        body = {
            "name": asked.app.name,
            "description": "",
            "tags": [],
            "mode": "workflow",
            "author_name": "sandbox",
        }
        await _send_json(asked.send, 200, body)

    async def _parameters(self, asked: _Asked) -> None:
        off = {"enabled": False}
        form = [
            {
                variable.kind: {
                    "label": variable.name,
                    "variable": variable.name,
                    "type": variable.kind,
                    "required": variable.required,
                    "options": [],
                    "max_length": variable.max_length,
                }
            }
            for variable in asked.app.form
        ]
        upload = {
            "enabled": True,
            "allowed_file_types": ["document", "image"],
            "allowed_file_extensions": [],
            "allowed_file_upload_methods": ["local_file", "remote_url"],
            "number_limits": 3,
        }
        limits = {"image": 10, "video": 100, "audio": 50}
        body = {
            "opening_statement": "",
            "suggested_questions": [],
            "suggested_questions_after_answer": off,
            "speech_to_text": off,
            "text_to_speech": {**off, "language": "", "voice": ""},
            "retriever_resource": {"enabled": True},
            "annotation_reply": off,
            "more_like_this": off,
            "user_input_form": form,
            "sensitive_word_avoidance": off,
            "file_upload": upload,
            "system_parameters": {
                **{f"{kind}_file_size_limit": megabytes for kind, megabytes in limits.items()},
                "file_size_limit": MAX_UPLOAD_BYTES // 1024**2,
                "workflow_file_upload_limit": 10,
            },
        }
        await _send_json(asked.send, 200, body)

    async def _site(self, asked: _Asked) -> None:
        body = {
            "title": asked.app.name,
            "chat_color_theme": None,
            "chat_color_theme_inverted": False,
            "icon_type": "emoji",
            "icon": "\U0001f916",
            "icon_background": "#FFEAD5",
            "description": None,
            "copyright": None,
            "privacy_policy": None,
            "custom_disclaimer": "",
            "default_language": "en-US",
            "show_workflow_steps": True,
            "use_icon_as_answer_icon": False,
            "icon_url": None,
        }
        await _send_json(asked.send, 200, body)

    async def _meta(self, asked: _Asked) -> None:
        await _send_json(asked.send, 200, {"tool_icons": {}})

    async def _chat(self, asked: _Asked) -> None:
        message = "Please check if your app mode matches the right API route."
        raise _RefusedError(400, "not_chat_app", message)

    async def _upload(self, asked: _Asked) -> None:
        fields = _multipart(asked.headers.get(b"content-type", b""), asked.body)
        part = fields.get("file")
        if part is None:
            raise _RefusedError(400, "no_file_uploaded", "Please upload your file.")
        content = part.get_payload(decode=True)
        size = len(content) if isinstance(content, bytes) else 0
        if size > MAX_UPLOAD_BYTES:
            raise _RefusedError(413, "file_too_large", "")
        user = str(fields["user"].get_content()).strip() if "user" in fields else ""
        name = part.get_filename() or "file"
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        kind = "document" if extension in _DOCUMENTS else "image" if extension in _IMAGES else "custom"
        file_id, now = str(uuid4()), int(time.time())
        self._uploads[file_id] = (asked.app.id, user, kind)
        body = {
            "id": file_id,
            "name": name,
            "size": size,
            "extension": extension,
            "mime_type": part.get_content_type(),
            "created_by": self._user_id(asked.app, user),
            "created_at": now,
            "preview_url": None,
            "source_url": f"http://127.0.0.1/files/{file_id}/file-preview?timestamp={now}&nonce=0&sign=0",
            "original_url": None,
            "user_id": None,
            "tenant_id": str(uuid5(NAMESPACE_URL, "sandbox:tenant")),
            "conversation_id": None,
            "file_key": None,
        }
        await _send_json(asked.send, 201, body)

    def _user_id(self, app: App, user: str) -> str:
        key = (app.id, user)
        if key not in self._user_ids:
            self._user_ids[key] = str(uuid5(NAMESPACE_URL, f"sandbox:{app.id}:{user}"))
        return self._user_ids[key]


# Paths without a variable part: method and the method of `Dify` that answers.
_FIXED = {
    "/workflows/logs": ("GET", "_logs"),
    "/info": ("GET", "_info"),
    "/parameters": ("GET", "_parameters"),
    "/site": ("GET", "_site"),
    "/meta": ("GET", "_meta"),
    "/files/upload": ("POST", "_upload"),
    "/chat-messages": ("POST", "_chat"),
    "/completion-messages": ("POST", "_chat"),
}


def _translation_app(translator: Translator) -> App:
    form = (
        Variable("text", "paragraph", required=True, max_length=50_000),
        Variable("source_language", "text-input", required=False, max_length=48),
        Variable("target_language", "text-input", required=True, max_length=48),
    )
    return _app("translation", TRANSLATION_KEY, "text", form, translator)


def _category_app() -> App:
    form = (
        Variable("transcript", "paragraph", required=True, max_length=200_000),
        Variable("categories", "paragraph", required=True, max_length=50_000),
    )
    return _app("category", CATEGORY_KEY, "transcript", form, categoriser)


def _app(
    name: str, key: str, question: str, form: tuple[Variable, ...], answer: Callable[[Mapping[str, Any]], Any]
) -> App:
    """Ids are made from the name, so that they are the same in every sandbox."""
    app_id, workflow_id = (
        str(uuid5(NAMESPACE_URL, f"sandbox:{kind}:{name}")) for kind in ("app", "workflow")
    )
    return App(app_id, name, key, workflow_id, question, form, answer)


def _user(given: Any) -> str:
    if not given:
        raise _RefusedError(400, "invalid_param", "Arg user must be provided.")
    user = str(given)
    if len(user) > MAX_USER_CHARACTERS:
        raise _UnknownError
    return user


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _matches(run: Run, query: WorkflowLogQuery) -> bool:
    # A run that was told to be stopped by its own time limit is logged as what became of it.
    if query.status is not None and run.status != query.status:
        return False
    created = datetime.fromtimestamp(run.created_at, UTC)
    if query.created_at__before is not None and created > _aware(query.created_at__before):
        return False
    if query.created_at__after is not None and created < _aware(query.created_at__after):
        return False
    if not query.keyword:
        return True
    keyword = query.keyword[:30].lower()
    texts = (
        json.dumps(run.inputs, ensure_ascii=False),
        json.dumps(run.outputs, ensure_ascii=False),
        run.user,
    )
    return query.keyword == run.id or any(keyword in text.lower() for text in texts)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _log_row(run: Run) -> dict[str, Any]:
    return {
        "id": str(uuid5(NAMESPACE_URL, f"sandbox:log:{run.id}")),
        "workflow_run": {
            "id": run.id,
            "version": "2026-01-01 00:00:00.000000",
            "status": run.status,
            "triggered_from": "app-run",
            "error": run.error,
            "elapsed_time": run.elapsed,
            "total_tokens": run.tokens,
            "total_steps": run.steps,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
            "exceptions_count": run.exceptions,
        },
        "details": None,
        "created_from": "service-api",
        "created_by_role": "end_user",
        "created_by_account": None,
        "created_by_end_user": {
            "id": run.user_id,
            "type": "service-api",
            "is_anonymous": False,
            "session_id": run.user,
        },
        "created_at": run.created_at,
    }


def _multipart(content_type: bytes, body: bytes) -> dict[str, EmailMessage]:
    """The parts of a form by their names; the last of a name wins."""
    message = email.message_from_bytes(
        b"Content-Type: " + content_type + b"\r\n\r\n" + body, policy=email.policy.HTTP
    )
    parts: dict[str, EmailMessage] = {}
    if isinstance(message, EmailMessage) and message.is_multipart():
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if isinstance(name, str) and isinstance(part, EmailMessage):
                parts[name] = part
    return parts


async def _send(send: Send, status: int, body: bytes, headers: list[Header]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _send_json(send: Send, status: int, body: Any) -> None:
    """JSON as Dify's framework prints it: compact, ASCII, slashes escaped, a line break at the end."""
    text = json.dumps(body, separators=(",", ":")).replace("/", "\\/")
    await _send(send, status, f"{text}\n".encode(), [_JSON, *_COMMON])


async def _send_error(send: Send, refused: _RefusedError) -> None:
    body = {"code": refused.code, "message": str(refused), "status": refused.status}
    text = json.dumps(body, separators=(",", ":")).replace("/", "\\/")
    headers = [_JSON, *(_VERSION if refused.status == 405 else _COMMON)]
    if refused.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="api"'))
    await _send(send, refused.status, f"{text}\n".encode(), headers)
