"""A finished run as a small HTTP service.

    python examples/serve.py runs/reviews --port 8000
    curl localhost:8000/predict --data '{"texts": ["I love it", "it broke at once"]}'

One process with one model, which predicts for one request at a time. It has no TLS and no login: put
a proxy that has both before it.
"""

import argparse
import asyncio
from typing import Annotated, Any, Generic, TypeVar

import h11
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

import plainloop as pl
from plainloop.cli.exits import expected_errors_exit

MOST_BYTES = 1_000_000
MOST_ROWS = 64
MOST_CHARACTERS = 10_000
SECONDS_FOR_A_HEADER = 10
SECONDS_FOR_A_BODY = 10
MOST_CONNECTIONS = 100

Text = Annotated[str, StringConstraints(max_length=MOST_CHARACTERS)]
Row = TypeVar("Row")


class Question(BaseModel, Generic[Row]):
    """What /predict takes: a text for each row, or a pair of texts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    texts: Annotated[list[Row], Field(min_length=1, max_length=MOST_ROWS)]


def create_app(run: pl.Run) -> Starlette:
    """The service: POST /predict and GET /health, JSON whatever happens."""
    is_pairs = len(run.task.text_columns) > 1
    question_type: Any = Question[tuple[Text, Text]] if is_pairs else Question[Text]
    # A bad model fails here and not at the first request.
    run.predict([("a", "a")] if is_pairs else ["a"])
    turn = asyncio.Lock()  # two predictions at once would share the cores, and the memory

    async def predict(request: Request) -> JSONResponse:
        body = await read_body(request)
        try:
            question = question_type.model_validate_json(body)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, wrong["loc"])) or "body"
            raise HTTPException(422, f"{place}: {wrong['msg']}") from None
        async with turn:
            # In a thread, so that /health answers meanwhile.
            predictions = await run_in_threadpool(run.predict, question.texts)
        return JSONResponse({"predictions": predictions})

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "labels": list(run.task.label_names)})

    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: answer_error, Exception: answer_error},
    )


async def read_body(request: Request) -> bytes:
    """The request's body; one that is too long is not read to its end."""
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS_FOR_A_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"more than {MOST_BYTES} bytes")
    except TimeoutError:
        raise HTTPException(408, f"no complete body in {SECONDS_FOR_A_BODY} s") from None
    return bytes(body)


async def answer_error(_request: Request, error: Exception) -> JSONResponse:
    """An error as JSON; of one that nobody expected only the log says more."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": "internal error"}, 500)


class TimedProtocol(H11Protocol):
    """uvicorn's HTTP, which alone would wait for ever for the header of a request.

    Connections that never finish it count for `limit_concurrency`, and would lock out all others.
    """

    header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header."""
        super().connection_made(transport)
        self.wait_for_a_header()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self.wait_for_a_header()

    def wait_for_a_header(self) -> None:
        """Close the connection if the next header is not complete in time, however it trickles in."""

        def close_if_waiting() -> None:
            if self.conn.their_state is h11.IDLE:
                self.transport.close()

        if self.header_timer:
            self.header_timer.cancel()
        self.header_timer = self.loop.call_later(SECONDS_FOR_A_HEADER, close_if_waiting)


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; requests in hand are answered first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: reachable from outside")
    parser.add_argument("--port", type=int, default=8000, help="0: a free one, which is printed")
    arguments = parser.parse_args()
    with expected_errors_exit():
        app = create_app(pl.load_run(arguments.run))
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        http=TimedProtocol,
        limit_concurrency=MOST_CONNECTIONS,
    )


if __name__ == "__main__":
    main()
