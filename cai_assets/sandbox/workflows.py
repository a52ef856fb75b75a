"""The sandbox's Dify apps, a run of one, and the event frames of a run.

What Dify's worker does: inputs in, events out. HTTP, keys and faults are dify.py's. Fields and their
order are those of Dify 1.14.2's recorded streams.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from cai_assets.sandbox.answers import Answer, usage

PING = b"event: ping\n\n"
STOPPED = "Stopped by user."
_MODEL = {"model_provider": "langgenius/openai/openai", "model_name": "gpt-4o-mini"}
# A recorded stream has one text_chunk a token; here at most this many, to stay quick.
_MOST_CHUNKS = 8


@dataclass(frozen=True)
class Variable:
    """One declared input: `kind` is `paragraph` or `text-input`."""

    name: str
    kind: str
    required: bool
    max_length: int

    def problem(self, value: Any) -> str | None:
        """Dify's words for what is wrong with a value, or None."""
        if value is None:
            return f"{self.name} is required in input form" if self.required else None
        if not isinstance(value, str):
            return f"(type '{self.kind}') {self.name} in input form must be a string"
        if len(value) > self.max_length:
            return f"{self.name} in input form must be less than {self.max_length} characters"
        return None


@dataclass(frozen=True)
class App:
    """One published workflow: Start, one model node, End."""

    id: str
    name: str
    key: str
    workflow_id: str
    question: str
    form: tuple[Variable, ...]
    answer: Callable[[Mapping[str, Any]], Answer]

    def inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The declared inputs; others are dropped and NUL characters stripped, without a word."""
        return {
            variable.name: value.replace("\0", "") if isinstance(value, str) else value
            for variable in self.form
            if (value := given.get(variable.name)) is not None
        }

    def problem(self, given: Mapping[str, Any]) -> str | None:
        """What Dify would answer to these inputs, or None when they will do."""
        for variable in self.form:
            if (problem := variable.problem(given.get(variable.name))) is not None:
                return problem
        return None


@dataclass
class Run:
    """One run of a workflow, from its request to its end.

    `status` is `queued` until a worker takes it, then as Dify says; times are unix seconds. `dead`: its
    worker went, and it says for ever that it is running. `hidden`: its asker was told that nothing runs.
    """

    app: App
    user: str
    user_id: str
    inputs: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid4()))
    task_id: str = field(default_factory=lambda: str(uuid4()))
    status: str = "queued"
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    elapsed: float = 0.0
    tokens: int = 0
    steps: int = 0
    exceptions: int = 0
    created_at: int = field(default_factory=lambda: int(time.time()))
    finished_at: int | None = None
    frames: list[bytes] = field(default_factory=list)
    stop: asyncio.Event | None = None
    dead: bool = False
    hidden: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        """Whether it has ended, or waits for a person."""
        return self.finished_at is not None or self.status == "paused"

    def publish(self, frames: list[bytes]) -> None:
        """Add events and wake whoever follows."""
        self.frames += frames
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self, frames: list[bytes], start: int, ping_seconds: float) -> AsyncIterator[bytes]:
        """Events from the `start`-th on as they come, with pings while the run is being worked on.

        Args:
            frames: `self.frames`, taken while the run had not ended (they are let go of then).
            start: how many of them to leave out.
            ping_seconds: time between pings.
        """
        while True:
            news = self._news
            while start < len(frames):
                yield frames[start]
                start += 1
            if self.done or self.dead:
                return
            try:
                await asyncio.wait_for(news.wait(), ping_seconds)
            except TimeoutError:
                if self.status == "running":
                    yield PING

    def system_inputs(self) -> dict[str, Any]:
        """The inputs with the `sys.` ones that Dify adds."""
        return {
            **self.inputs,
            "sys.files": [],
            "sys.user_id": self.user,
            "sys.app_id": self.app.id,
            "sys.workflow_id": self.app.workflow_id,
            "sys.workflow_run_id": self.id,
        }


@dataclass(frozen=True)
class Bend:
    """How a fault changes a run: the kind of `faults.DIFY_KINDS`, and its error text."""

    kind: str = ""
    error: str = ""


async def work(run: Run, latency: float, bend: Bend) -> Run:
    """Run a workflow: publish its events, and leave its result in `run`.

    Returns:
        What the caller is told: `run` itself, or a copy that differs from it where the fault says so.
    """
    started = time.perf_counter()
    run.status, run.created_at = "running", int(time.time())
    frames = _Frames(run)
    run.publish(frames.started())
    if latency > 0:
        run.stop = asyncio.Event()
        try:
            await asyncio.wait_for(run.stop.wait(), latency)
        except TimeoutError:
            pass
        else:
            run.status, run.error, run.steps = "stopped", STOPPED, 2
            run.elapsed, run.finished_at = _since(started), int(time.time())
            run.publish([frames.finished(run)])
            return run
    if bend.kind == "paused":
        run.status, run.steps, run.elapsed = "paused", 1, _since(started)
        run.publish([frames.paused(run)])
        return run
    answer = run.app.answer(run.inputs)
    if bend.kind == "failed":
        answer = Answer("", {}, answer.prompt, bend.error)
    elif bend.kind == "empty" and answer.error is None:
        answer = Answer(
            "", {name: "" if isinstance(v, str) else v for name, v in answer.outputs.items()}, answer.prompt
        )
    spent = usage(answer.prompt, run.inputs[run.app.question], answer.text, _since(started))
    run.elapsed, run.finished_at = _since(started), int(time.time())
    if answer.error is not None or bend.kind == "error_event":
        run.status, run.error = "failed", answer.error or bend.error
        run.steps, run.exceptions = 2, 1
        last = frames.error(run) if bend.kind == "error_event" else frames.finished(run)
        run.publish([frames.model_failed(run.error or ""), last])
        return run
    run.status, run.tokens, run.steps = "succeeded", spent["total_tokens"], 3
    run.outputs = {**answer.outputs, "usage": spent}
    told = run
    if bend.kind == "partial":
        run.status, run.exceptions = "partial-succeeded", 1
    elif bend.kind == "stopped":
        told = _told_stopped(run)
    run.publish([*frames.answered(answer, spent), frames.finished(told)])
    return told


def _told_stopped(run: Run) -> Run:
    return Run(
        run.app, run.user, run.user_id, run.inputs, run.id, run.task_id, "stopped", {}, STOPPED, run.elapsed,
        steps=2, created_at=run.created_at, finished_at=run.finished_at, frames=run.frames,
    )  # fmt: skip


def result(run: Run) -> dict[str, Any]:
    """A run as blocking mode answers it."""
    return {
        "task_id": run.task_id,
        "workflow_run_id": run.id,
        "data": {
            "id": run.id,
            "workflow_id": run.app.workflow_id,
            "status": run.status,
            "outputs": run.outputs,
            "error": run.error,
            "elapsed_time": run.elapsed,
            "total_tokens": run.tokens,
            "total_steps": run.steps,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
        },
    }


def finished_data(run: Run) -> dict[str, Any]:
    """`data` of `workflow_finished`."""
    return {
        "id": run.id,
        "workflow_id": run.app.workflow_id,
        "status": run.status,
        "outputs": run.outputs,
        "error": run.error,
        "elapsed_time": run.elapsed,
        "total_tokens": run.tokens,
        "total_steps": run.steps,
        "created_by": {"id": run.user_id, "user": run.user},
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "exceptions_count": run.exceptions,
        "files": [],
    }


def texts_of(run: Run) -> int:
    """How many texts a run is about."""
    return len(json.loads(run.inputs["texts"])) if "texts" in run.inputs else 1


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 6)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Frames:
    """The frames of one run. They are put together from text: a run must cost well under a millisecond."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._ids = f'"workflow_run_id":"{run.id}","task_id":"{run.task_id}"'
        self._inputs = _encode(run.inputs)
        self._model_id = str(uuid4())

    def _frame(self, event: str, data: str) -> bytes:
        # A text may hold half of a surrogate pair, which UTF-8 has no form for.
        return f'data: {{"event":"{event}",{self._ids},"data":{data}}}\n\n'.encode(errors="replace")

    def _node_started(self, execution_id: str, node: str, kind: str, title: str) -> bytes:
        return self._frame(
            "node_started",
            f'{{"id":"{execution_id}","node_id":"{node}","node_type":"{kind}","title":"{title}","index":1,'
            '"predecessor_node_id":null,"inputs":null,"inputs_truncated":false,'
            f'"created_at":{self._run.created_at},"extras":{{}},"iteration_id":null,"loop_id":null,'
            '"agent_strategy":null}',
        )

    def _node_finished(
        self,
        execution_id: str,
        node: tuple[str, str, str],
        inputs: str,
        outputs: str,
        *,
        process: str = "{}",
        error: str | None = None,
        metadata: str = "null",
    ) -> bytes:
        status = "succeeded" if error is None else "failed"
        finished_at = self._run.finished_at or self._run.created_at
        return self._frame(
            "node_finished",
            f'{{"id":"{execution_id}","node_id":"{node[0]}","node_type":"{node[1]}","title":"{node[2]}","index":1,'
            f'"predecessor_node_id":null,"inputs":{inputs},"inputs_truncated":false,"process_data":{process},'
            f'"process_data_truncated":false,"outputs":{outputs},"outputs_truncated":false,"status":"{status}",'
            f'"error":{_encode(error)},"elapsed_time":{self._run.elapsed},"execution_metadata":{metadata},'
            f'"created_at":{self._run.created_at},"finished_at":{finished_at},"files":[],"iteration_id":null,'
            '"loop_id":null}',
        )

    def started(self) -> list[bytes]:
        run, start_id = self._run, str(uuid4())
        return [
            self._frame(
                "workflow_started",
                f'{{"id":"{run.id}","workflow_id":"{run.app.workflow_id}","inputs":{_encode(run.system_inputs())},'
                f'"created_at":{run.created_at},"reason":"initial"}}',
            ),
            self._node_started(start_id, "start_node", "start", "Start"),
            self._node_finished(start_id, ("start_node", "start", "Start"), self._inputs, self._inputs),
            self._node_started(self._model_id, "llm", "llm", "LLM"),
        ]

    def answered(self, answer: Answer, spent: Mapping[str, Any]) -> list[bytes]:
        """The model's words, its end, and the End node."""
        run, end_id, spent_text = self._run, str(uuid4()), _encode(spent)
        words = answer.text.split(" ")
        step = -(-len(words) // _MOST_CHUNKS)
        pieces = [" ".join(words[at : at + step]) for at in range(0, len(words), step)]
        chunks = [
            self._chunk(piece if number == len(pieces) - 1 else f"{piece} ", "llm", "text")
            for number, piece in enumerate(pieces)
        ]
        # Measured: the End node's other outputs come as chunks too, set apart by line breaks. Whoever builds
        # the result from chunks gets them glued to the text.
        chunks += [self._chunk("\n", "end_node", "answer"), self._chunk(spent_text, "llm", "usage")]
        # The question stands in the Start node's frame already; the prompt repeats it, as Dify's does.
        asked = _encode(run.inputs[run.app.question])
        process = (
            '{"model_mode":"chat","prompts":[{"role":"system","text":'
            f'{_encode(answer.prompt)},"files":[]}},{{"role":"user","text":{asked},"files":[]}}],'
            f'"usage":{spent_text},"finish_reason":"stop","model_provider":"{_MODEL["model_provider"]}",'
            f'"model_name":"{_MODEL["model_name"]}"}}'
        )
        outputs = f'{{"text":{_encode(answer.text)},"reasoning_content":"",'
        outputs += f'"usage":{spent_text},"finish_reason":"stop"}}'
        metadata = (
            f'{{"total_tokens":{spent["total_tokens"]},"total_price":"{spent["total_price"]}",'
            f'"currency":"{spent["currency"]}"}}'
        )
        ended = _encode(run.outputs)
        return [
            *chunks,
            self._node_finished(
                self._model_id,
                ("llm", "llm", "LLM"),
                _encode(_MODEL),
                outputs,
                process=process,
                metadata=metadata,
            ),
            self._node_started(end_id, "end_node", "end", "End"),
            self._node_finished(end_id, ("end_node", "end", "End"), ended, ended),
        ]

    def _chunk(self, text: str, node: str, variable: str) -> bytes:
        return self._frame(
            "text_chunk", f'{{"text":{_encode(text)},"from_variable_selector":["{node}","{variable}"]}}'
        )

    def model_failed(self, error: str) -> bytes:
        return self._node_finished(self._model_id, ("llm", "llm", "LLM"), _encode(_MODEL), "{}", error=error)

    def finished(self, run: Run) -> bytes:
        return self._frame("workflow_finished", _encode(finished_data(run)))

    def paused(self, run: Run) -> bytes:
        return self._frame(
            "workflow_paused",
            _encode(
                {
                    "workflow_run_id": run.id,
                    "paused_nodes": ["llm"],
                    "outputs": {},
                    "reasons": [],
                    "status": run.status,
                    "created_at": run.created_at,
                    "elapsed_time": run.elapsed,
                    "total_tokens": run.tokens,
                    "total_steps": run.steps,
                }
            ),
        )

    def error(self, run: Run) -> bytes:
        body = _encode({"code": "internal_server_error", "message": run.error, "status": 500})
        return f'data: {{"event":"error","workflow_run_id":"{run.id}",{body[1:]}\n\n'.encode()
