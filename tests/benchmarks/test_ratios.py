"""Ratios from synthetic records: medians of rounds, missing contestants."""

from __future__ import annotations

import pytest
from benchmarks.ratios import RATIOS, ratios

from tests.helpers.benchmark_results import groups


def test_speed_is_the_median_over_rounds() -> None:
    found, ranges = ratios(groups())
    # 128/4, 128/5, 128/4 over 48/24
    assert found["train_kv_vs_trl_fp32"] == pytest.approx(16.0)
    assert ranges["train_kv_vs_trl_fp32"] == pytest.approx({"median": 16.0, "min": 12.8, "max": 16.0})
    assert found["dora_vs_lora"] == pytest.approx(0.8)
    assert ranges["dora_vs_lora"] == pytest.approx({"median": 0.8, "min": 0.5, "max": 1.0})


def test_the_faster_of_two_peers_counts_in_each_round() -> None:
    found, ranges = ratios(groups())
    # 32 over 10, 25.6 over 20, 32 over 10
    assert ranges["train_kv_vs_seqcls_bf16"] == pytest.approx({"median": 3.2, "min": 1.28, "max": 3.2})
    assert found["train_kv_vs_seqcls_bf16"] == pytest.approx(3.2)


def test_a_peer_that_failed_later_counts_with_the_rounds_it_had() -> None:
    assert ratios(groups())[0]["train_kv_vs_trl_bf16"] == pytest.approx(32 / 4)


def test_share_of_the_peak_is_taken_round_by_round() -> None:
    # 4000 GFLOP in 8 s, over 1000, 500 and 625 GFLOP/s
    assert ratios(groups())[1]["peak_share"] == pytest.approx({"median": 0.8, "min": 0.5, "max": 1.0})


def test_memory_and_step_time() -> None:
    found, _ = ratios(groups())
    assert found["memory_vs_trl_bf16"] == pytest.approx(0.25)
    assert found["tinyllama_nf4_peak_gb"] == pytest.approx(2.4)
    assert found["tinyllama_nf4_step_vs_bf16"] == pytest.approx(1.15)


def test_what_is_missing_is_null_and_has_no_verdict() -> None:
    found, ranges = ratios(groups())
    for key in ("train_all_vs_trl_bf16", "score_vs_generate_fp32", "score_vs_llama_cpp", "peak_share_kv"):
        assert found[key] is None
        assert ranges[key] is None
    nothing, _ = ratios({})
    assert set(RATIOS) == set(nothing)
    assert set(nothing.values()) == {None}
