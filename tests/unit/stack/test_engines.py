"""Adapters are data: what each engine's metrics become, and which pods serve which phase."""

from __future__ import annotations

import pytest

from kar_checks.checks.stack.engines import (
    Quantity,
    Sample,
    engines_of,
    known,
    quantities,
    role_of,
    started,
    told_in_part,
)
from probes import stack_client


def sample(name: str, value: float, **labels: str) -> Sample:
    return Sample(name=name, labels=labels, value=value)


@pytest.mark.parametrize(
    ("families", "samples", "expected"),
    [
        ([], [], {}),
        (
            ["vllm:"],
            [
                sample("vllm:request_success_total", 3, finished_reason="stop"),
                sample("vllm:request_success_total", 4, finished_reason="length"),
                sample("vllm:prompt_tokens_by_source_total", 5, source="local_compute"),
                sample("vllm:prompt_tokens_by_source_total", 6, source="local_cache_hit"),
                sample("vllm:prompt_tokens_by_source_total", 7, source="external_kv_transfer"),
                sample("vllm:nixl_bytes_transferred_sum", 8, engine="0"),
                sample("vllm:nixl_bytes_transferred_sum", 9, engine="1"),
            ],
            {"requests": 7, "computed": 5, "received": 7, "bytes": 17},
        ),
        # The metric is there and the series is not yet: none was counted.
        (
            ["vllm:"],
            [sample("vllm:prompt_tokens_by_source_total", 5, source="local_compute")],
            {"computed": 5, "received": 0},
        ),
        # An older release: no accounts, no bytes, and that is not 0.
        (
            ["vllm:"],
            [sample("vllm:e2e_request_latency_seconds_count", 9)],
            {"requests": 9},
        ),
        (
            ["sglang:"],
            [
                sample("sglang:num_requests_total", 2),
                sample("sglang:realtime_tokens_total", 30, mode="prefill_compute"),
                sample("sglang:realtime_tokens_total", 40, mode="decode"),
                sample("sglang:kv_transfer_total_mb_sum", 1.5),
            ],
            {"requests": 2, "computed": 30, "bytes": 1_572_864},
        ),
        # A gauge of the last transfer counts nothing.
        (["sglang:"], [sample("sglang:kv_transfer_total_mb", 12)], {}),
        (
            ["trtllm_"],
            [sample("trtllm_request_success_total", 2), sample("trtllm_kv_transfer_bytes_sum", 99)],
            {"requests": 2, "bytes": 99},
        ),
        (
            ["dynamo_", "vllm:"],
            [
                sample("dynamo_component_requests_total", 5, dynamo_endpoint="generate"),
                sample("dynamo_component_requests_total", 9, dynamo_endpoint="clear_kv_blocks"),
                sample("vllm:nixl_bytes_transferred_sum", 8),
            ],
            {"requests": 5, "bytes": 8},
        ),
    ],
)
def test_samples_become_quantities(
    families: list[str], samples: list[Sample], expected: dict[str, float]
) -> None:
    assert quantities(families, samples) == expected


def test_an_engine_is_known_by_how_its_metrics_begin() -> None:
    assert [one.name for one in engines_of(["process_", "vllm:", "dynamo_"])] == ["vllm", "dynamo"]
    assert engines_of(["process_", "go_"]) == []


def test_every_metric_that_is_read_is_asked_for() -> None:
    names = known().metrics()
    assert "vllm:nixl_bytes_transferred_sum" in names
    assert "process_start_time_seconds" in names
    assert started([sample("process_start_time_seconds", 12.5)]) == 12.5
    assert started([]) is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, None),
        ({"app": "prefill"}, None),
        ({"llm-d.ai/role": "prefill"}, ("prefill", "llm-d.ai/role=prefill")),
        ({"llm-d.ai/role": "decode"}, ("decode", "llm-d.ai/role=decode")),
        ({"llm-d.ai/role": "prefill-decode"}, ("both", "llm-d.ai/role=prefill-decode")),
        ({"llm-d.ai/role": "router"}, None),
        (
            {"disaggregatedset.x-k8s.io/role": "prefill"},
            ("prefill", "disaggregatedset.x-k8s.io/role=prefill"),
        ),
        (
            {
                "nvidia.com/dynamo-component-type": "worker",
                "nvidia.com/dynamo-sub-component-type": "decode",
            },
            ("decode", "nvidia.com/dynamo-sub-component-type=decode"),
        ),
    ],
)
def test_the_phase_of_a_pod_follows_from_its_labels(
    labels: dict[str, str], expected: tuple[str, str] | None
) -> None:
    assert role_of(labels) == expected


@pytest.mark.parametrize(
    ("line", "engine", "quantity"),
    [
        ("vllm:request_success_total", "vllm", "requests"),
        ("ray_vllm:request_success_total", "vllm", "requests"),
        ("ray_vllm_request_success_total", "vllm", "requests"),
        ("vllm_nixl_bytes_transferred_sum", "vllm", "bytes"),
        ("sglang:num_requests_total", "sglang", "requests"),
        ("sglang_num_requests_total", "sglang", "requests"),
        ("trtllm_request_success_total", "trtllm", "requests"),
        ("trtllm:request_success_total", "trtllm", "requests"),
        ("request_success_total", "trtllm", "requests"),
    ],
)
def test_the_same_metrics_are_known_under_other_prefixes(
    line: str, engine: str, quantity: Quantity
) -> None:
    families, found = stack_client.samples(f'{line}{{engine="0"}} 5\n', known().metrics())
    assert [one.name for one in engines_of(families)] == [engine]
    told = [Sample(name=name, labels=labels, value=value) for name, labels, value in found]
    assert quantities(families, told) == {quantity: 5}


@pytest.mark.parametrize("line", ["http_requests_total", "vllmish:x", "request_errors_total"])
def test_metrics_of_others_are_no_engine(line: str) -> None:
    families, _ = stack_client.samples(f"{line} 5\n", known().metrics())
    assert engines_of(families) == []


def test_what_counts_a_part_only_is_known() -> None:
    told = sample("sglang_kv_transfer_total_mb_sum", 1.0)
    assert told_in_part("bytes", ["sglang_"], [told])
    assert not told_in_part("requests", ["sglang_"], [told])
    assert not told_in_part("bytes", ["vllm:"], [sample("vllm:nixl_bytes_transferred_sum", 1.0)])
