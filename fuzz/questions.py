"""Questions to the server by the System One protocol: an answer to each, or a status of 4xx in the protocol's shape."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import strategies as st
from tests.helpers.served import client_of

from fuzz.areas import Check, FuzzArea
from fuzz.model_files import STORED
from fuzz.odd_values import odd_text, odd_value
from fuzz.requests import RefusedRequestError
from whinchat.server.api_schema import Limits
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost

LIMITS = Limits(max_chars=300, max_questions=6, max_question_tokens=600)
_JSON = {"content-type": "application/json"}

_text = st.one_of(
    st.sampled_from(
        ["tea", "Tea", "tea ", "ﬁne", "fine", "", "0", "a, b", "{text}", "{question}", "</s>", "<|im_end|>", "é 😀"]
    ),
    odd_text,
)
_plain = st.one_of(_text, st.lists(_text, max_size=3), st.dictionaries(_text, _text, max_size=2))
_content = st.one_of(_plain, odd_value)
_asked = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("noul")},
        optional={"instructions": _content, "criteria": st.dictionaries(st.sampled_from(["true", "false"]), _content)},
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("choice"),
            "criteria": st.dictionaries(_text, st.one_of(st.none(), _plain), min_size=2, max_size=6),
        },
        optional={"instructions": _content},
    ),
    st.fixed_dictionaries(
        {"type": st.just("score"), "criteria": st.lists(_plain, min_size=2, max_size=6)},
        optional={"instructions": _content},
    ),
    st.fixed_dictionaries({"type": odd_value, "criteria": odd_value}, optional={"box": odd_value}),
)
_words = st.sampled_from(["tea", "Is it late? {text}", "</s> yes", "日本語", "a\nb", "[INST]"])
_calm = st.one_of(
    st.fixed_dictionaries({"type": st.just("noul"), "instructions": _words}),
    st.fixed_dictionaries(
        {
            "type": st.just("choice"),
            "criteria": st.dictionaries(_text, st.one_of(st.none(), _words), min_size=2, max_size=6),
        },
        optional={"instructions": _words},
    ),
    st.fixed_dictionaries({"type": st.just("score"), "criteria": st.lists(_text, min_size=2, max_size=6)}),
)
_body = st.one_of(
    st.fixed_dictionaries(
        {
            "model": st.just("run"),
            "state": _words,
            "questions": st.dictionaries(st.sampled_from("abé🎯"), _calm, min_size=1, max_size=4),
        }
    ),
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(["jev-latest", "run"]),
            "state": _plain,
            "questions": st.dictionaries(_text, _asked, min_size=1, max_size=4),
        },
        optional={"assets": odd_value, "seed": odd_value},
    ),
    st.fixed_dictionaries({"model": odd_value, "state": odd_value, "questions": odd_value}),
    odd_value,
).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))


def _check_refusal(response: httpx2.Response) -> None:
    detail = response.json()["detail"]
    if response.status_code == 422:
        assert detail
        assert all(set(error) == {"loc", "msg", "type"} and error["loc"][0] == "body" for error in detail)
    else:
        assert set(detail) == {"error_type", "message"}
    raise RefusedRequestError(f"{response.status_code} {response.text[:200]}")


def _check_answer(question: dict[str, Any], answer: dict[str, Any]) -> None:
    assert answer["type"] == question["type"]
    if answer["type"] == "noul":
        assert 0 <= answer["noul"] <= 1
        return
    criteria, shares = question["criteria"], answer["probabilities"]
    assert list(shares) == (
        list(criteria) if answer["type"] == "choice" else [str(level) for level in range(len(criteria))]
    )
    assert math.isclose(sum(shares.values()), 1, abs_tol=1e-6)
    assert 0 <= answer["confidence"] <= 1
    if answer["type"] == "choice":
        assert shares[answer["choice"]] == max(shares.values())
    else:
        assert list(answer["legend"].values()) == criteria


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    run = folder / "merged"
    run.symlink_to(STORED / "merged")
    host = ModelHost.load({"run": run})
    with client_of(create_app(host.models, host.predict, LIMITS, 4)) as client:

        def check(body: bytes) -> None:
            response = client.post("/v1/systemone", content=body, headers=_JSON)
            if 400 <= response.status_code < 500:
                _check_refusal(response)
            assert response.status_code == 200, f"status {response.status_code}"
            questions, answers = json.loads(body)["questions"], response.json()["answers"]
            assert list(answers) == list(questions), "another set of answers than of questions"
            for name, question in questions.items():
                _check_answer(question, answers[name])

        yield check


QUESTION_AREA = FuzzArea("questions", _body, _open, share=0.1)
