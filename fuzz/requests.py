"""Requests to the server, in its own process: an answer for each text, or a status of 4xx that says why."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import strategies as st
from tests.helpers.served import LIMITS, client_of

from fuzz.areas import Check, FuzzArea
from fuzz.model_files import STORED
from fuzz.odd_values import odd_text, odd_value
from whinchat.errors import WhinchatError
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost


class RefusedRequestError(WhinchatError):
    """A status of 4xx, which is the server's way to refuse a request."""


@dataclass(frozen=True)
class Request:
    """A request as the client sends it."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]


_plain = st.sampled_from(["what a good day", "so so", "tea", "é 😀"])
_document = st.one_of(
    st.fixed_dictionaries({"texts": st.lists(_plain, min_size=1, max_size=4)}),
    st.fixed_dictionaries({"texts": st.lists(st.one_of(_plain, odd_text), min_size=1, max_size=4)}),
    st.fixed_dictionaries(
        {"texts": st.one_of(st.lists(odd_text, max_size=5), odd_value)},
        optional={"model": odd_value, "explain": odd_value, "all": odd_value},
    ),
    odd_value,
)
_body = st.one_of(
    _document.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
    st.sampled_from(
        [b'{"texts":[' + b"1," * 3_000 + b"1]}", b"[" * 5_000, b'{"texts":["\\ud800"]}', b'{"texts":[NaN]}',
        b'{"texts":"x"}',
         b'{"texts":["' + b"a" * 500 + b'"]}', b'{"texts":[' + b"9" * 5_000 + b"]}"]
    ),
)  # fmt: skip
_classify = st.builds(
    Request, st.just("POST"), st.just("/v1/classify"), _body, st.just({"content-type": "application/json"})
)


@st.composite
def _table(draw: st.DrawFn) -> Request:
    name = draw(
        st.sampled_from(["in.csv", "in.tsv", "in.jsonl", "in.parquet", "in", "../in.csv", "in.csv\x00", "é.csv"])
    )
    rows = "\n".join(["text", *draw(st.lists(odd_text, max_size=4))])
    content = draw(st.one_of(st.binary(max_size=60), st.just(rows.encode("utf-8", "surrogatepass"))))
    column = draw(st.one_of(st.just("text"), odd_text)).encode("utf-8", "surrogatepass")
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    middle = b'\r\n--b\r\nContent-Disposition: form-data; name="text_column"\r\n\r\n'
    end = draw(st.sampled_from([b"\r\n--b--\r\n", b"\r\n--b", b""]))
    return Request(
        "POST", "/v1/table", head + content + middle + column + end, {"content-type": "multipart/form-data; boundary=b"}
    )


_any = st.builds(
    Request,
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    st.one_of(
        st.sampled_from(
            ["/", "/health", "/ready", "/metrics", "/v1/model", "/v1/classify", "/v1/table", "/openapi.json",
            "/runs/run/card",
             "/runs/run/figures/../../recipe.yaml", "/runs/%2e%2e/recipe.yaml", "/runs/run/figures/%00",
             "/v1/model?x=%ff"]
        ),
        st.text(alphabet="abc/%.?&=0\u00e9", max_size=20).map(lambda path: f"/{path}"),
    ),
    _body,
    st.dictionaries(
        st.sampled_from(["content-type", "accept", "origin", "x-forwarded-for", "range", "if-none-match"]),
        st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
        max_size=2,
    ),
)  # fmt: skip


def _strict(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _check_answer(request: Request, response: httpx2.Response) -> None:
    if 400 <= response.status_code < 500:
        raise RefusedRequestError(f"{response.status_code} {response.text[:200]}")
    assert response.status_code < 400, f"status {response.status_code}"
    if request.path != "/v1/classify" or request.method != "POST":
        return
    texts, results = json.loads(request.body)["texts"], _strict(response.text)["results"]
    assert len(results) == len(texts), "another number of answers than of texts"
    for result in results:
        assert result["label"] in result["probabilities"]
        assert math.isclose(sum(result["probabilities"].values()), 1, abs_tol=1e-4)


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    run = folder / "merged"
    run.symlink_to(STORED / "merged")
    host = ModelHost.load({"run": run})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:

        def check(request: Request) -> None:
            try:
                response = client.request(request.method, request.path, content=request.body, headers=request.headers)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise RefusedRequestError(f"the client: {error}") from error
            _check_answer(request, response)

        yield check


REQUEST_AREA = FuzzArea("requests", st.one_of(_classify, _table(), _any), _open, share=0.1)
