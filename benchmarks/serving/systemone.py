"""``python -m benchmarks.serving.systemone RUN``: requests a second of ``/v1/systemone`` with four questions.

Each request asks a choice, a yes/no question, a score and another yes/no question about one text. With ``--trained``,
the questions are those of the run's recipe, of which the first four without ``multi`` are asked.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow.parquet as pq

from benchmarks.machine import ROOT, machine, provenance, versions
from benchmarks.markdown import format_spread, markdown_table
from benchmarks.serving.__main__ import Load, server, summarize
from benchmarks.tables import save
from whinchat.storage.run_folder import RunFolder

RESULT = ROOT / "benchmarks" / "results" / "systemone.json"
QUESTIONS: dict[str, Any] = {
    "team": {
        "type": "choice",
        "instructions": "Which team should handle this?",
        "criteria": {"returns": "Refunds and damage", "billing": "Payments", "delivery": None, "other": None},
    },
    "angry": {"type": "noul", "instructions": "Is the writer angry?"},
    "urgency": {"type": "score", "instructions": "How urgent is it?", "criteria": ["routine", "soon", "today"]},
    "question": {"type": "noul", "instructions": "Does the writer ask a question?"},
}


def trained_questions(run: Path) -> dict[str, Any]:
    """Return up to four questions of a run's recipe as the protocol has them."""
    task = RunFolder(run).read_recipe().task
    found: dict[str, Any] = {}
    for name, question in task.questions.items():
        if question.type == "yes_no":
            meant = {"true": question.options.get("yes") or None, "false": question.options.get("no") or None}
            found[name] = {"type": "noul", "instructions": question.instructions, "criteria": meant}
        elif question.type == "choice":
            criteria = {option: text or None for option, text in question.options.items()}
            found[name] = {"type": "choice", "instructions": question.instructions, "criteria": criteria}
        elif question.type == "score":
            levels = [": ".join(filter(None, level)) for level in question.levels.items()]
            found[name] = {"type": "score", "instructions": question.instructions, "criteria": levels}
    if not found:
        raise SystemExit(f"{run}: its recipe has no choice, yes_no or score questions; leave --trained out")
    return dict(list(found.items())[:4])


async def load(
    address: str, questions: dict[str, Any], texts: Sequence[str], clients: int, seconds: float, *, trained: bool
) -> Load:
    """Let clients ask about a text, wait for the answers and ask about the next, for ``seconds``."""
    turns, times, refused = cycle(texts), list[float](), 0
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        start = time.perf_counter()

        async def ask() -> None:
            nonlocal refused
            while (sent := time.perf_counter()) - start < seconds:
                body = {"model": "jev-latest", "state": next(turns), "questions": questions}
                response = await client.post(f"{address}/v1/systemone", json=body)
                if response.status_code != 200:
                    refused += 1
                    continue
                times.append(time.perf_counter() - sent)
                answers = response.json()["answers"]
                assert len(answers) == len(questions)
                assert all(answer["x_calibrated"] == trained for answer in answers.values())

        await asyncio.gather(*(ask() for _ in range(clients)))
        rate = len(times) / (time.perf_counter() - start)
    if not times:
        raise SystemExit(f"{address}: no request was answered, {refused} were refused")
    p50, p99 = np.quantile(times, [0.5, 0.99]).tolist()
    return {
        "concurrency": clients, "per_second": rate, "p50": p50, "p99": p99, "answers": len(times), "refused": refused,
    }  # fmt: skip


def main() -> None:
    """Measure, write the result, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--trained", action="store_true", help="ask the questions that the run was trained on")
    parser.add_argument("--texts", type=Path, help="a file with a text a line; the evaluated texts of the run without")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16, 64], help="numbers of clients")
    parser.add_argument("--seconds", type=float, default=10, help="duration of each load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT, help="file of the result")
    options = parser.parse_args()
    questions = trained_questions(options.run) if options.trained else QUESTIONS
    if options.texts is None:
        texts = pq.read_table(options.run / "predictions.parquet", columns=["text"])["text"].to_pylist()[:400]
    else:
        texts = options.texts.read_text(encoding="utf-8").splitlines()[:400]
    with server(["whinchat", "serve", str(options.run), "--port"]) as address:

        def measure(clients: int, seconds: float) -> Load:
            return asyncio.run(load(address, questions, texts, clients, seconds, trained=options.trained))

        measure(max(options.concurrency), min(options.seconds, 3))
        rounds = [[measure(count, options.seconds) for count in options.concurrency] for _ in range(options.rounds)]
    loads = summarize(rounds)
    about = {"machine": machine(), "versions": versions()}
    about |= {"provenance": provenance("python -m benchmarks.serving.systemone"), "trained": options.trained}
    save({**about, "questions": questions, "loads": loads, "rounds": rounds}, options.out)
    rows = [
        (
            str(one["concurrency"]), format_spread(one["per_second"], 1),
            f"{1000 * one['p50']:,.0f} ms", f"{1000 * one['p99']:,.0f} ms", str(one["refused"]),
        )
        for one in loads
    ]  # fmt: skip
    print(markdown_table(("clients", "requests a second (rounds)", "p50", "p99", "refused"), rows))


if __name__ == "__main__":
    main()
