import pytest

from localcluster.resources import EVICTION_MEMORY_MIB, MIB, Machine, share_machine

GIB = 1024 * MIB


@pytest.mark.parametrize("cores", [2, 3, 4, 7, 64])
@pytest.mark.parametrize("memory", [8 * GIB, 24 * GIB + 12345, 500 * GIB])
@pytest.mark.parametrize("free", [3 * GIB, 80 * GIB])
def test_the_nodes_together_offer_no_more_than_there_is(cores: int, memory: int, free: int) -> None:
    share = share_machine(Machine(cores, memory, 100 * GIB, free), 3)
    offered_cpu = cores * 1000 - share.reserved_cpu_millis
    offered_memory = memory - (share.reserved_memory_mib + EVICTION_MEMORY_MIB) * MIB
    offered_storage = 100 * GIB - share.reserved_storage_mib * MIB
    assert 0 < 3 * offered_cpu < cores * 1000
    assert 0 < 3 * offered_memory < memory
    assert 0 < 3 * offered_storage < free


def test_a_small_machine_still_gives_each_node_something_to_measure_with() -> None:
    share = share_machine(Machine(2, 24 * GIB, 250 * GIB, 80 * GIB), 3)
    assert share.cpu_millis == 600
    assert 5 * 1024 <= share.memory_mib <= 6 * 1024
