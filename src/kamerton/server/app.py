"""The FastAPI application: routes, middleware and error handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from kamerton import __version__
from kamerton.server.connections import quiet_accept
from kamerton.server.errors import DESCRIBED, handle_errors
from kamerton.server.generation.client import Generator
from kamerton.server.guard import Guard
from kamerton.server.routes.chat import chat_router
from kamerton.server.routes.files import files_router
from kamerton.server.routes.graders import graders_router
from kamerton.server.routes.jobs import jobs_router
from kamerton.server.routes.models import models_router
from kamerton.server.settings import Settings


def create_app(settings: Settings, generator: Generator | None = None) -> FastAPI:
    """Return the API over the run directories below `settings.root`, whose models answer through `generator`.

    Starts no process and creates no folder.
    """
    generator = generator or Generator(quantize=settings.quantize)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(quiet_accept())
        yield
        await generator.close()

    app = FastAPI(
        title="Kamerton",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=DESCRIBED,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.generator = generator
    handle_errors(app)
    app.add_middleware(Guard, settings=settings)
    for router in (files_router(settings), jobs_router(settings), graders_router(), models_router(settings)):
        app.include_router(router)
    app.include_router(chat_router(settings, generator))

    @app.get("/health", tags=["health"])
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
