from __future__ import annotations

from collections import Counter

import pytest

from kar_checks import programme

KARS = {
    "dra_support": 51,
    "driver_runtime_management": 1,
    "gpu_sharing": 3,
    "virtualized_accelerator": 4,
    "ai_inference": None,
    "advanced_inference_ingress": 11,
    "high_performance_networking": 10,
    "disaggregated_inference": 41,
    "gang_scheduling": 53,
    "cluster_autoscaling": 55,
    "pod_autoscaling": 57,
    "accelerator_metrics": 59,
    "ai_service_metrics": 61,
    "secure_accelerator_access": 49,
    "workload_sandboxing": 20,
    "robust_controller": 63,
}


@pytest.mark.parametrize(
    ("version", "must", "should"),
    [("1.33", 8, 1), ("1.34", 9, 0), ("1.35", 9, 3), ("1.36", 8, 6), ("1.37", 8, 7)],
)
def test_each_version_has_its_count_of_each_level(version: str, must: int, should: int) -> None:
    lines = programme.requirements(version)
    assert Counter(one.level for one in lines) == Counter(MUST=must, SHOULD=should)
    assert {one.version for one in lines} == {version}


def test_all_ids_are_known_with_their_numbers() -> None:
    seen = {
        one.id: one.kar
        for version in programme.versions()
        for one in programme.requirements(version)
    }
    assert seen == KARS
    assert set(programme.all_ids()) == set(KARS)
    assert len(programme.all_ids()) == 16


def test_every_line_says_what_it_means_and_what_a_person_would_show() -> None:
    for version in programme.versions():
        for one in programme.requirements(version):
            assert one.title
            assert one.meaning
            assert one.attest


def test_a_line_without_a_number_links_to_its_checklist() -> None:
    lines = {one.id: one for one in programme.requirements("1.36")}
    assert lines["ai_inference"].label == "no KAR"
    assert lines["ai_inference"].link.endswith("AIConformance-1.36.yaml")
    assert lines["gang_scheduling"].label == "KAR-53"
    assert lines["gang_scheduling"].link == programme.KAR_LINK


@pytest.mark.parametrize(
    ("server", "checklist"),
    [
        ("v1.37.0", "1.37"),
        ("v1.36.4-gke.1047001", "1.36"),
        ("v1.35.2-eks-bc803b4", "1.35"),
        ("v1.34.1+k3s1", "1.34"),
        ("v1.33.5+rke2r1", "1.33"),
        ("1.36+", "1.36"),
        ("v1.35", "1.35"),
        ("v1.36-rc.1", "1.36"),
        ("v1.29.3", "1.33"),
        ("v1.40.0", "1.37"),
    ],
)
def test_a_server_gets_its_checklist_or_the_nearest(server: str, checklist: str) -> None:
    assert programme.checklist_for(server) == checklist


@pytest.mark.parametrize("server", ["", "v1", "v2.37.0", "1.x", "kubernetes", "v1.+"])
def test_what_is_no_version_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes version"):
        programme.checklist_for(server)


def test_a_version_without_a_checklist_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"1\.32.*1\.33, 1\.34"):
        programme.requirements("1.32")


@pytest.mark.parametrize("version", programme.versions())
def test_each_id_is_listed_or_absent_with_a_reason(version: str) -> None:
    listed = {one.id for one in programme.requirements(version)}
    gone = dict(programme.absent(version))
    assert listed | set(gone) == set(KARS)
    assert not listed & set(gone)
    assert all(gone.values())


def test_what_came_later_and_what_went_are_told_apart() -> None:
    assert dict(programme.absent("1.33"))["gpu_sharing"] == "Listed from 1.35 on."
    assert dict(programme.absent("1.37")) == {
        "dra_support": "From 1.36 on this belongs to base Kubernetes conformance."
    }
