"""`python -m cai_assets.sandbox`: arguments to settings, then serve until told to stop."""

import argparse
import json
import sys
from pathlib import Path

from cai_assets.failures import CaiError
from cai_assets.sandbox.config import SandboxConfig
from cai_assets.sandbox.faults import FaultError
from cai_assets.sandbox.server import serve


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 0 then, and 2 when the data or a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m cai_assets.sandbox",
        description="NocoDB and Dify on 127.0.0.1, with conversations in them. Their keys are no secrets.",
    )
    defaults = SandboxConfig()
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--data", default="sample", help="folder with conversations.parquet and messages.parquet, or `sample`"
    )
    parser.add_argument("--days", type=int, help="days of sample conversations")
    parser.add_argument(
        "--sample-options", type=json.loads, default={}, help="JSON: arguments of sample.generate"
    )
    parser.add_argument("--dialect", choices=("postgres", "sqlite"), default=defaults.dialect)
    parser.add_argument("--latency", type=float, default=defaults.latency, help="seconds a model takes")
    parser.add_argument("--concurrency-limit", type=int, default=defaults.concurrency_limit)
    parser.add_argument("--workers", type=int, default=defaults.workers)
    parser.add_argument("--hang-seconds", type=float, default=defaults.hang_seconds)
    parser.add_argument("--ping-seconds", type=float, default=defaults.ping_seconds)
    parser.add_argument("--faults", type=json.loads, default={}, help="JSON, as PUT /sandbox/faults takes it")
    parser.add_argument("--ready-file", type=Path, help="written (JSON) once the sandbox answers")
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="end when the starting process has gone"
    )
    given = parser.parse_args(arguments)
    sample_options = dict(given.sample_options)
    if given.days is not None:
        sample_options["days"] = given.days
    config = SandboxConfig(
        data=given.data,
        sample_options=sample_options,
        dialect=given.dialect,
        latency=given.latency,
        concurrency_limit=given.concurrency_limit,
        workers=given.workers,
        hang_seconds=given.hang_seconds,
        ping_seconds=given.ping_seconds,
        faults=given.faults,
    )
    try:
        serve(config, port=given.port, ready_file=given.ready_file, stop_with_parent=given.stop_with_parent)
    except (CaiError, FaultError) as error:
        print(f"The sandbox cannot start: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
