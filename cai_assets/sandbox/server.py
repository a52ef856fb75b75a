"""One ASGI application with both services, its control endpoints, and the process that serves it on loopback.

    /api/...       NocoDB (nocodb.py)
    /v1/...        Dify (dify.py)
    /sandbox/...   control: info, faults, restart (Dify's)

It binds 127.0.0.1 and nothing else: the keys are public.
"""

import contextlib
import gc
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from cai_assets.failures import PermanentError
from cai_assets.sandbox.config import SandboxConfig, environment
from cai_assets.sandbox.dify import Dify
from cai_assets.sandbox.faults import TRANSPORT_KINDS, FaultError, Faults, Receive, Scope, Send, strike
from cai_assets.sandbox.nocodb import NocoDB
from cai_assets.sandbox.seed import load


class _Faulty:
    """Counts a service's requests and lets the transport faults strike before the service sees them."""

    def __init__(self, service: str, app: Any, faults: Faults, counts: Counter[str]) -> None:
        self._service = service
        self._app = app
        self._faults = faults
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._counts[f"{self._service} {scope['method']}"] += 1
            if self._faults.rules:
                rule = self._faults.draw(self._service, TRANSPORT_KINDS, scope["path"])
                if rule is not None and await strike(rule, scope, send):
                    return
        await self._app(scope, receive, send)


def build_app(config: SandboxConfig) -> Starlette:
    """Load the data and build the application.

    Raises:
        PermanentError: the folder of data is missing or lacks a file or column.
        FaultError: `config.faults` cannot be understood.
    """
    faults = Faults()
    faults.replace(config.faults)
    data = load(config)
    counts: Counter[str] = Counter()
    nocodb = NocoDB(data.tables, faults, config.dialect)
    dify = Dify(data.parallel, faults, config)

    async def info(request: Request) -> Response:
        return JSONResponse(
            {
                "pid": os.getpid(),
                "data": config.data,
                "dialect": config.dialect,
                "environment": environment(str(request.base_url).rstrip("/")),
                "nocodb": nocodb.describe(),
                "dify": dify.describe(),
                "requests": dict(sorted(counts.items())),
            }
        )

    async def control_faults(request: Request) -> Response:
        if request.method == "PUT":
            try:
                faults.replace(await request.json())
            except (FaultError, ValueError) as error:
                return PlainTextResponse(str(error), status_code=400)
        return JSONResponse(faults.describe())

    async def control_restart(request: Request) -> Response:
        given = await request.json()
        return JSONResponse({"lost": await dify.restart(float(given.get("down_seconds", 0)))})

    app = Starlette(
        routes=[
            Route("/sandbox/info", info),
            Route("/sandbox/restart", control_restart, methods=["POST"]),
            Route("/sandbox/faults", control_faults, methods=["GET", "PUT"]),
            Mount("/v1", app=_Faulty("dify", dify, faults, counts)),
            # Mounted at the root: NocoDB also answers paths it does not know.
            Mount("/", app=_Faulty("nocodb", nocodb, faults, counts)),
        ]
    )
    app.state.nocodb = nocodb
    app.state.dify = dify
    app.state.faults = faults
    return app


class _Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's protocol, which also shows the application its connection, so that a fault can cut it."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The request's task has been made but has not run yet; it finds the connection in its scope.
        if self.scope is not None:
            self.scope.setdefault("state", {})["transport"] = self.transport


class _Server(uvicorn.Server):
    """uvicorn's server, ended by a signal without passing the signal on, so that the exit code is 0."""

    def __init__(
        self, config: uvicorn.Config, ready: str, ready_file: Path | None, parent: int | None
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._ready_file = ready_file
        self._parent = parent

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        old = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready_file is not None:
            # Written beside and renamed: whoever waits for it never reads half a file.
            part = self._ready_file.with_name(f"{self._ready_file.name}.part")
            content = {"pid": os.getpid(), "base_url": self._ready, "environment": environment(self._ready)}
            part.write_text(json.dumps(content, indent=1))
            part.replace(self._ready_file)
        print(f"sandbox listening on {self._ready}", flush=True)

    async def on_tick(self, counter: int) -> bool:
        if self._parent is not None and counter % 10 == 0 and os.getppid() != self._parent:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(
    config: SandboxConfig, *, port: int = 0, ready_file: Path | None = None, stop_with_parent: bool = False
) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT.

    Args:
        config: what to serve.
        port: 0 takes a free one.
        ready_file: written (JSON: pid, base_url, environment) once it answers.
        stop_with_parent: end also when the process that started this one has gone.

    Raises:
        PermanentError: the port is taken, or as `build_app` says.
        FaultError: see `build_app`.
    """
    parent = os.getppid() if stop_with_parent else None
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.closing(listener):
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise PermanentError(
                f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}); name another, or 0 for any"
            ) from error
        app = build_app(config)
        # The data lives as long as the process: the garbage collector need not walk through it each time.
        gc.collect()
        gc.freeze()
        settings = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            # Streams that hang on purpose must not keep the process.
            timeout_graceful_shutdown=1,
        )
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = _Server(settings, address, ready_file, parent)
        server.run(sockets=[listener])
