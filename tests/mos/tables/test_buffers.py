import torch

from mos.tables.buffers import ALIGNMENT, Buffers


def test_memory_is_lent_again_only_when_nothing_views_it():
    buffers = Buffers()
    (first,) = buffers.lend([1000])
    first[:] = b"a" * 1000
    tensor = torch.frombuffer(first, dtype=torch.uint8)[10:20]
    del first
    (second,) = buffers.lend([1000])
    second[:] = b"b" * 1000
    assert bytes(tensor.tolist()) == b"a" * 10
    addresses = {tensor.data_ptr() - 10, torch.frombuffer(second, dtype=torch.uint8).data_ptr()}
    del tensor, second
    (third,) = buffers.lend([500])
    assert torch.frombuffer(third, dtype=torch.uint8).data_ptr() in addresses


def test_it_holds_no_more_than_the_largest_need_once_nothing_is_viewed():
    buffers = Buffers()
    for size in (100, 5000, 300, 70, 5000):
        buffers.lend([size, size])
    assert buffers.held_bytes == 2 * 5056


def test_every_buffer_is_aligned_and_of_its_size():
    views = Buffers().lend([3, 0, 64, 65, 1])
    assert [len(view) for view in views] == [3, 0, 64, 65, 1]
    addresses = [torch.frombuffer(view, dtype=torch.uint8).data_ptr() for view in views if len(view)]
    assert all(address % ALIGNMENT == 0 for address in addresses)
    assert Buffers().lend([]) == []
