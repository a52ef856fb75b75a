"""Dify's Service API for workflows, as measured on 1.14.2: keys, checks, runs, streams.

Who may do what and when; what a workflow answers is in answers.py, bodies are in dify_runs.py and
dify_apps.py, files in dify_uploads.py, the wire in dify_wire.py. A plain ASGI application, as a run must cost
well under a millisecond.
"""

import asyncio
import json
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa
from pydantic import ValidationError

from cai_assets.sandbox.answers import Translator
from cai_assets.sandbox.config import SandboxConfig
from cai_assets.sandbox.dify_apps import info, meta, parameters, published_apps, site
from cai_assets.sandbox.dify_runs import (
    WorkflowLogQuery,
    WorkflowRunPayload,
    finished_frame,
    log_page,
    run_body,
)
from cai_assets.sandbox.dify_uploads import Uploads
from cai_assets.sandbox.dify_wire import (
    COMMON,
    JSON,
    NOT_FOUND_PAGE,
    STREAM,
    VERSION,
    Asked,
    Connections,
    RefusedError,
    UnknownError,
    is_uuid,
    send_body,
    send_error,
    send_json,
    user_of,
)
from cai_assets.sandbox.faults import DIFY_KINDS, Faults, Receive, Rule, Scope, Send, cut, strike
from cai_assets.sandbox.workflows import PING, App, Bend, Run, result, texts_of, work

Endpoint = Callable[[Asked], Awaitable[None]]

# Older runs are forgotten; a run without its events takes about 2 kB.
MOST_RUNS = 200_000
_CUTS = ("cut_before", "cut_after", "cut_late")


class Dify:
    """The Dify service: an ASGI application with three published workflows, told apart by their API keys."""

    def __init__(self, parallel: pa.Table, faults: Faults, config: SandboxConfig) -> None:
        translator = Translator(parallel)
        self._faults = faults
        self._config = config
        self._parallel = len(translator)
        self._apps = {app.key: app for app in published_apps(translator)}
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._by_user: dict[tuple[str, str], dict[str, Run]] = {}
        self._by_task: dict[str, Run] = {}
        self._user_ids: dict[tuple[str, str], str] = {}
        self._uploads = Uploads(self._user_id)
        self._active: Counter[str] = Counter()
        # Texts that were paid for, and those among them whose asker had been told that nothing runs.
        self._answers = {app.name: Counter(paid=0, hidden=0) for app in self._apps.values()}
        self._counts: dict[str, Counter[str]] = {app.name: Counter() for app in self._apps.values()}
        self._workers = asyncio.Semaphore(config.workers) if config.workers else None
        self._fixed: Mapping[str, Mapping[str, Endpoint]] = {
            "/workflows/run": {"POST": self._run},
            "/workflows/logs": {"GET": self._logs},
            "/info": {"GET": _telling(info)},
            "/parameters": {"GET": _telling(parameters)},
            "/site": {"GET": _telling(site)},
            "/meta": {"GET": _telling(meta)},
            "/files/upload": {"POST": self._upload},
            "/chat-messages": {"POST": self._chat},
            "/completion-messages": {"POST": self._chat},
        }
        # Tasks are kept here, or the event loop would forget a run nobody waits for.
        self._tasks: dict[asyncio.Task[Run], Run] = {}
        self._queued: dict[tuple[str, str], list[Run]] = {}
        self._connections = Connections()

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
                    "under_way": self._active[app.id],
                    "answers": dict(self._answers[app.name]),
                }
                for app in self._apps.values()
            },
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        async with self._connections.of(scope) as up:
            if up:
                await self._answer(scope, receive, send)

    async def restart(self, down_seconds: float) -> int:
        """Do what a restart of Dify does: connections break, runs under way never end, queued ones wait on.

        Args:
            down_seconds: how long it answers nobody.

        Returns:
            How many runs were lost.
        """
        lost = {task: run for task, run in self._tasks.items() if run.status == "running"}
        for task, run in lost.items():
            run.dead = True
            task.cancel()
        await self._connections.go_down(down_seconds)
        return len(lost)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        endpoint = methods.get(scope["method"])
        if not methods:
            page = (b"content-type", b"text/html; charset=utf-8")
            await send_body(send, 404, NOT_FOUND_PAGE, [page, *VERSION])
            return
        if endpoint is None:
            why = "The method is not allowed for the requested URL."
            await send_error(send, RefusedError(405, "method_not_allowed", why))
            return
        try:
            query = {
                name: values[-1] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()
            }
            app = self._authenticate(headers)
            await endpoint(Asked(app, scope["method"], query, headers, body, scope, send))
        except RefusedError as refused:
            await send_error(send, refused)
        except UnknownError:
            answer = b'{"message":"Internal Server Error","code":"unknown","status":500}\n'
            await send_body(send, 500, answer, [JSON, *COMMON])

    def _endpoints(self, path: str) -> Mapping[str, Endpoint]:
        """The methods a path answers to; none: no such path."""
        if path in self._fixed:
            return self._fixed[path]
        match path.strip("/").split("/"):
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
            raise RefusedError(401, "unauthorized", message)
        if scheme.lower() != "bearer":
            raise RefusedError(401, "unauthorized", "Authorization scheme must be 'Bearer'")
        app = self._apps.get(key.strip())
        if app is None:
            raise RefusedError(401, "unauthorized", "Access token is invalid")
        return app

    # -- runs

    async def _run_by_id(self, asked: Asked, workflow_id: str) -> None:
        if not is_uuid(workflow_id):
            raise RefusedError(400, "bad_request", f"Invalid workflow_id format: '{workflow_id}'. ")
        if workflow_id != asked.app.workflow_id:
            raise RefusedError(404, "not_found", f"Workflow not found with id: {workflow_id}")
        await self._run(asked)

    async def _run(self, asked: Asked) -> None:
        body = asked.document()
        try:
            payload = WorkflowRunPayload.model_validate(body)
        except ValidationError as error:
            raise RefusedError(400, "invalid_param", str(error)) from error
        streaming = payload.response_mode == "streaming"
        app, user = asked.app, body["user"]
        rule = self._faults.draw("dify", DIFY_KINDS, asked.scope["path"]) if self._faults.rules else None
        self._check_limit(app, streaming, rule)
        self._uploads.check(app, user, payload.files or [])
        problem = app.problem(payload.inputs)
        if problem is not None and not streaming:
            raise RefusedError(400, "invalid_param", problem)
        if problem is not None or (rule is not None and rule.kind == "hang"):
            await self._hang(asked, streaming)
            return
        run = Run(app, user, self._user_id(app, user), app.inputs(payload.inputs))
        bend = Bend(rule.kind, rule.error) if rule is not None else Bend()
        self._active[app.id] += 1
        frames = run.frames
        told: Run | None = None
        if self._config.latency > 0 or (streaming and self._workers is not None):
            # A task of its own: the run goes on when the client goes away.
            task = asyncio.create_task(self._work(run, bend, streaming))
            self._tasks[task] = run
            task.add_done_callback(lambda done: self._tasks.pop(done, None))
            if not streaming:
                await asyncio.wait([task])
                if run.dead:
                    return
                told = task.result()
        else:
            told = await self._work(run, bend, streaming=False)
        if streaming:
            await self._stream(asked, run, frames, rule)
        elif rule is not None and rule.kind in _CUTS:
            await cut(asked.scope)
        elif rule is not None and rule.kind == "gateway":
            await strike(replace(rule, kind="status", code=504), asked.scope, asked.send)
        else:
            answer = json.dumps(result(told or run)).encode()
            content_type = (b"content-type", b"application/json; charset=utf-8")
            await send_body(asked.send, 200, answer, [content_type, *COMMON])

    async def _work(self, run: Run, bend: Bend, streaming: bool) -> Run:
        try:
            if not streaming or self._workers is None:
                return await self._begin(run, bend)
            waiting = self._queued.setdefault((run.app.id, run.user), [])
            waiting.append(run)
            async with self._workers:
                waiting.remove(run)
                return await self._begin(run, bend)
        finally:
            self._active[run.app.id] -= 1
            self._counts[run.app.name][run.status] += 1
            if run.tokens:
                answers = self._answers[run.app.name]
                answers["paid"] += texts_of(run)
                answers["hidden"] += texts_of(run) if run.hidden else 0

    async def _begin(self, run: Run, bend: Bend) -> Run:
        # A queued run has no row: it can be found from `workflow_started` on.
        self._runs[run.id] = self._by_task[run.task_id] = run
        self._by_user.setdefault((run.app.id, run.user), {})[run.id] = run
        if len(self._runs) > MOST_RUNS:
            _, old = self._runs.popitem(last=False)
            del self._by_user[old.app.id, old.user][old.id]
        try:
            return await work(run, self._config.latency, bend)
        finally:
            del self._by_task[run.task_id]
            # Whoever follows holds the events; a run that has ended is told by its result alone.
            run.frames = []

    async def _stream(self, asked: Asked, run: Run, frames: list[bytes], rule: Rule | None) -> None:
        """Send a run's events. A run that has ended goes out in one piece, as fast as the client reads."""
        kind = rule.kind if rule is not None else ""
        if rule is not None and kind == "gateway":
            await strike(replace(rule, kind="status", code=504), asked.scope, asked.send)
            return
        await asked.send({"type": "http.response.start", "status": 200, "headers": [STREAM, *COMMON]})
        await asked.send({"type": "http.response.body", "body": PING, "more_body": True})
        if kind == "cut_before":
            await cut(asked.scope)
            return
        if run.done and kind not in _CUTS:
            if kind == "duplicate_events":
                frames = [frame for frame in frames for _ in range(2)]
            await asked.send({"type": "http.response.body", "body": b"".join(frames)})
            return
        async for frame in run.follow(frames, 0, self._config.ping_seconds):
            if kind == "cut_late" and run.done and frame is frames[-1]:
                await cut(asked.scope)
                return
            sent = frame * 2 if kind == "duplicate_events" else frame
            await asked.send({"type": "http.response.body", "body": sent, "more_body": True})
            if kind == "cut_after":
                await cut(asked.scope)
                return
        await asked.send({"type": "http.response.body", "body": b""})

    async def _hang(self, asked: Asked, streaming: bool) -> None:
        """A stream that never says anything, as after inputs that the worker refuses."""
        if streaming:
            await asked.send({"type": "http.response.start", "status": 200, "headers": [STREAM, *COMMON]})
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
            raise RefusedError(
                400,
                "invalid_param",
                "Too many requests. Please try again later. The current maximum concurrent requests allowed "
                f"for {app.id} is {limit or 1}.",
            )

    def _found(self, app: App, run_id: str, message: str) -> Run:
        run = self._runs.get(run_id)
        if run is None or run.app is not app:
            raise RefusedError(404, "not_found", message)
        return run

    async def _get_run(self, asked: Asked, run_id: str) -> None:
        if not is_uuid(run_id):
            raise UnknownError
        run = self._found(asked.app, run_id, "Workflow run not found.")
        await send_json(asked.send, 200, run_body(run))

    async def _events(self, asked: Asked, run_id: str) -> None:
        user = user_of(asked.query.get("user"))
        run = self._found(asked.app, run_id, "Workflow run not found")
        if run.user != user:
            raise RefusedError(404, "not_found", "Workflow run not found")
        headers = [(b"cache-control", b"no-cache"), STREAM, *COMMON]
        await asked.send({"type": "http.response.start", "status": 200, "headers": headers})
        if run.done:
            await asked.send({"type": "http.response.body", "body": finished_frame(run)})
            return
        if run.dead:
            await asyncio.sleep(self._config.hang_seconds)  # nobody publishes for it any more
        frames = run.frames
        start = 0 if asked.query.get("include_state_snapshot") == "true" else len(frames)
        await asked.send({"type": "http.response.body", "body": PING, "more_body": True})
        async for frame in run.follow(frames, start, self._config.ping_seconds):
            await asked.send({"type": "http.response.body", "body": frame, "more_body": True})
        await asked.send({"type": "http.response.body", "body": b""})

    async def _stop(self, asked: Asked, task_id: str) -> None:
        """Always `success`, also for an unknown task or another user's, as measured."""
        asked.document()
        run = self._by_task.get(task_id)
        if run is not None and run.app is asked.app and run.stop is not None:
            run.stop.set()
        await send_json(asked.send, 200, {"result": "success"})

    async def _logs(self, asked: Asked) -> None:
        try:
            query = WorkflowLogQuery.model_validate(dict(asked.query))
        except ValidationError as error:
            raise RefusedError(400, "invalid_param", str(error)) from error
        session = query.created_by_end_user_session_id
        if session is not None:
            for queued in self._queued.get((asked.app.id, session), ()):
                queued.hidden = True  # it has no row, and whoever asks learns of none
            runs = list(self._by_user.get((asked.app.id, session), {}).values())
        else:
            runs = [run for run in self._runs.values() if run.app is asked.app]
        await send_json(asked.send, 200, log_page(runs[::-1], query))

    # -- the app itself

    async def _chat(self, asked: Asked) -> None:
        message = "Please check if your app mode matches the right API route."
        raise RefusedError(400, "not_chat_app", message)

    async def _upload(self, asked: Asked) -> None:
        await send_json(asked.send, 201, self._uploads.take(asked))

    def _user_id(self, app: App, user: str) -> str:
        key = (app.id, user)
        if key not in self._user_ids:
            self._user_ids[key] = str(uuid5(NAMESPACE_URL, f"sandbox:{app.id}:{user}"))
        return self._user_ids[key]


def _telling(body: Callable[[App], dict[str, Any]]) -> Endpoint:
    """An endpoint that tells something about the app."""

    async def tell(asked: Asked) -> None:
        await send_json(asked.send, 200, body(asked.app))

    return tell
