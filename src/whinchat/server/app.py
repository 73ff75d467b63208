"""The HTTP application: its parts, from the outermost middleware to the routes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from whinchat.output_files import temporary_folder
from whinchat.server.access_rules import AccessControl, AccessRules
from whinchat.server.api_routes import add_api
from whinchat.server.api_schema import Limits
from whinchat.server.batcher import Batcher, PredictFunction
from whinchat.server.error_responses import add_error_responses
from whinchat.server.page_routes import add_monitoring, add_pages
from whinchat.server.response_watch import ResponseWatch
from whinchat.server.run_pages import RunPages, model_info
from whinchat.server.served_models import ServedModel
from whinchat.server.server_metrics import ServerMetrics
from whinchat.server.systemone_routes import add_system_one
from whinchat.server.transfer_limits import TransferLimits
from whinchat.storage.run_folder import RunFolder


def create_app(
    models: Mapping[str, ServedModel],
    predict: PredictFunction,
    limits: Limits,
    batch_size: int,
    rules: AccessRules | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        models: the classifiers by name; the first is the default.
        predict: predicts at most ``batch_size`` texts; always called by the same thread.
        limits: what the server accepts.
        batch_size: maximum number of texts in a batch.
        rules: which requests are answered; by default those to a loopback address.
    """
    metrics = ServerMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(predict, batch_size, limits.max_waiting, metrics.batches.observe)
        batcher.start()
        metrics.waiting.set_function(lambda: batcher.waiting)
        app.state.batcher = batcher
        with temporary_folder() as app.state.uploads:
            yield
            await batcher.stop()

    app = FastAPI(
        title="whinchat",
        version=version("whinchat"),
        summary="A small chat model as a text classifier",
        lifespan=lifespan,
        # FastAPI's documentation pages load scripts from other hosts; `add_pages` has one that does not.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # The last one added is the outermost.
    add_error_responses(app)
    app.add_middleware(TransferLimits, limits=limits)
    rules = rules or AccessRules()
    app.add_middleware(AccessControl, rules=rules)
    if rules.allowed_origins:
        # Outside of the access control: a browser's preflight has no key, and a page can read why it was refused.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(rules.allowed_origins),
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=("Retry-After",),
        )
    app.add_middleware(ResponseWatch, metrics=metrics)
    pages = {
        name: RunPages.read(
            name,
            RunFolder(model.path),
            limits.max_chars,
            # The recipe may say that no text of its data is to be shown.
            quotes_texts=model.predictor.recipe.publish.samples != "none",
            language=model.predictor.recipe.task.language,
            questions=model.predictor.recipe.task.questions,
        )
        for name, model in models.items()
    }
    infos = [model_info(model, pages[name]) for name, model in models.items()]
    add_api(app, models, infos, limits, metrics)
    add_system_one(app, models, limits, metrics)
    add_monitoring(app, metrics)
    add_pages(app, pages)
    return app
