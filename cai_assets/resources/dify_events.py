"""A run as Dify's event stream tells it: bytes to events, events to a result.

The result is what `workflow_finished` says and nothing else (`text_chunk` repeats parts of it, in pieces and
with separators). Pings keep the line open and carry no data. Unknown events are passed over: Dify adds some
with every version.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sseclient

from cai_assets.domain.ledger import UNKNOWN, Usage, usage_of
from cai_assets.domain.workflows import OUTPUT_USAGE

# The statuses in which a run stays; the others are `scheduled` and `running`.
ENDED: Final = frozenset({"succeeded", "failed", "stopped", "partial-succeeded", "paused"})


class BrokenStreamError(Exception):
    """The stream holds what is no event of Dify's, mostly because it was cut in the middle of one."""


@dataclass(frozen=True, slots=True)
class RunState:
    """How a run ended.

    Attributes:
        workflow_run_id: Dify's id of the run; None only where an `error` event gave none.
        task_id: what `stop` takes; None where the state came from the run's detail.
        status: Dify's word; `error` for the event of that name.
        outputs: values of the End node, by its names; {} where there are none.
        error: why it did not succeed, in Dify's words.
        usage: tokens and price; None in it where nobody said.
        elapsed_s: seconds by the server's clock.
        code: code of an `error` event.
    """

    workflow_run_id: str | None
    task_id: str | None
    status: str
    outputs: Mapping[str, Any]
    error: str | None
    usage: Usage
    elapsed_s: float | None = None
    code: str | None = None


def events(source: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """The data events of a stream, in order.

    The parser splits at LF and CR only: U+2028, U+2029 and U+0085 stand unescaped in Dify's lines.

    Args:
        source: the stream's bytes, in pieces of any length.

    Raises:
        BrokenStreamError: an event's data is no JSON object, or no UTF-8.
    """
    try:
        for event in sseclient.SSEClient(iter(source)).events():
            data = json.loads(event.data)
            if not isinstance(data, Mapping):
                raise BrokenStreamError(f"an event holds {type(data).__name__}, not an object")
            yield data
    except ValueError as error:  # of JSON and of UTF-8
        raise BrokenStreamError(f"an event could not be read: {type(error).__name__}") from None


@dataclass(slots=True)
class RunFold:
    """What is known of a run, event by event; one fold goes on over several streams of the same run.

    Attributes:
        workflow_run_id: from the first data event on.
        task_id: likewise.
        end: how it ended, once a terminal event came.
    """

    workflow_run_id: str | None = None
    task_id: str | None = None
    end: RunState | None = None
    _nodes: dict[str, Usage] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        self.workflow_run_id = _text(event.get("workflow_run_id")) or self.workflow_run_id
        # A finished run that is attached to again gives its run id as its task id.
        task = _text(event.get("task_id"))
        if task and (self.task_id is None or task != self.workflow_run_id):
            self.task_id = task
        kind = event.get("event")
        data = event.get("data")
        detail: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
        if kind in ("node_finished", "node_retry"):
            self._add_node(detail)
        elif kind == "workflow_finished":
            self.end = run_state(detail, self.workflow_run_id, self.task_id, self.node_usage)
        elif kind == "workflow_paused":
            self.end = RunState(
                self.workflow_run_id,
                self.task_id,
                "paused",
                _object(detail.get("outputs")),
                None,
                self.node_usage,
            )
        elif kind == "error":
            self.end = RunState(
                self.workflow_run_id,
                self.task_id,
                "error",
                {},
                _text(event.get("message")),
                self.node_usage,
                code=_text(event.get("code")),
            )

    @property
    def node_usage(self) -> Usage:
        """Sum over the nodes that told their usage."""
        return sum(self._nodes.values(), UNKNOWN)

    def _add_node(self, detail: Mapping[str, Any]) -> None:
        # The same account stands in three places; each node execution counts once, also when events repeat.
        process = _object(detail.get("process_data"))
        for account in (
            _object(detail.get("outputs")).get("usage"),
            process.get("usage"),
            detail.get("execution_metadata"),
        ):
            usage = usage_of(account)
            if usage != UNKNOWN:
                model = _text(process.get("model_name"))
                place = f"{detail.get('id')}/{detail.get('retry_index', 0)}"
                self._nodes[place] = replace(usage, model=model)
                return


def run_state(
    detail: Mapping[str, Any],
    workflow_run_id: str | None = None,
    task_id: str | None = None,
    node_usage: Usage = UNKNOWN,
) -> RunState:
    """The state in a `workflow_finished`, a blocking answer's `data`, or a run's detail.

    Usage: the total of tokens is the run's own (`total_tokens`); the price is that of the nodes, else of the
    `usage` that the workflow itself gives as an output; the model is that of the nodes. 0 tokens mean that
    nobody said.
    """
    outputs = _object(detail.get("outputs"))
    own = usage_of({"total_tokens": detail.get("total_tokens")})
    elapsed = detail.get("elapsed_time")
    return RunState(
        workflow_run_id=_text(detail.get("id")) or workflow_run_id,
        task_id=task_id,
        status=_text(detail.get("status")) or "failed",
        outputs=outputs,
        error=_text(detail.get("error")),
        usage=own.or_else(node_usage).or_else(usage_of(outputs.get(OUTPUT_USAGE))),
        elapsed_s=float(elapsed) if isinstance(elapsed, int | float) else None,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
