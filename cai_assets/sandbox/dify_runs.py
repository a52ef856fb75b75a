"""Dify's bodies about runs: what is asked for, one run, a page of the logs.

Shapes only; runs come from workflows.py.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, Field

from cai_assets.sandbox.workflows import Run, finished_data


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


def run_body(run: Run) -> dict[str, Any]:
    """A run as `GET /workflows/run/{id}` shows it; `inputs` is JSON text there."""
    return {
        "id": run.id,
        "workflow_id": run.app.workflow_id,
        "status": run.status,
        "inputs": json.dumps({**run.system_inputs(), "sys.timestamp": run.created_at}),
        "outputs": run.outputs,
        "error": run.error,
        "total_steps": run.steps,
        "total_tokens": run.tokens,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "elapsed_time": run.elapsed,
    }


def finished_frame(run: Run) -> bytes:
    """What re-attaching to a run that has ended gives.

    Measured: one event, printed by another encoder than a live stream's, with the run's id as the task's.
    """
    body = {"event": "workflow_finished", "task_id": run.id, "workflow_run_id": run.id}
    return f"data: {json.dumps({**body, 'data': finished_data(run)})}\n\n".encode()


def log_page(runs: Sequence[Run], query: WorkflowLogQuery) -> dict[str, Any]:
    """One page of the logs of `runs` (newest first)."""
    found = [run for run in runs if _matches(run, query)]
    start = (query.page - 1) * query.limit
    return {
        "page": query.page,
        "limit": query.limit,
        "total": len(found),
        "has_more": len(found) > start + query.limit,
        "data": [_log_row(run) for run in found[start : start + query.limit]],
    }


def _matches(run: Run, query: WorkflowLogQuery) -> bool:
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
