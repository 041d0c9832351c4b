"""A cache with room holds the keys and values of transformers' own, whatever happens to its rows."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.cache_utils import DynamicCache, DynamicLayer

from kamerton.score.generate.growing_cache import GrowingLayer, grow_in_place

APPEND, SELECT, CUT = "append", "select", "cut"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just(APPEND), st.integers(1, 90)),
        st.tuples(st.just(SELECT), st.lists(st.integers(0, 3), min_size=1, max_size=4)),
        st.tuples(st.just(CUT), st.integers(1, 3)),  # as the server does with padding that no row needs
    ),
    max_size=12,
)


def _states(rows: int, tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 2, tokens, 4, generator=torch.Generator().manual_seed(seed))


@given(STEPS)
def test_states_equal_those_of_a_dynamic_cache(steps):
    plain = DynamicCache()
    plain.update(_states(4, 5, 0), _states(4, 5, 1), 0)
    growing = grow_in_place(DynamicCache())
    growing.update(_states(4, 5, 0), _states(4, 5, 1), 0)
    growing = grow_in_place(growing)
    assert type(growing.layers[0]) is GrowingLayer
    for number, (step, value) in enumerate(steps, 1):
        rows = len(plain.layers[0].keys)
        for cache in (plain, growing):
            layer = cache.layers[0]
            if step == APPEND:
                cache.update(_states(rows, value, number), _states(rows, value, -number), 0)
            elif step == SELECT:
                cache.batch_select_indices(torch.tensor([index % rows for index in value]))
            elif layer.get_seq_length() > value:
                layer.keys, layer.values = layer.keys[:, :, value:], layer.values[:, :, value:]
        assert torch.equal(growing.layers[0].keys, plain.layers[0].keys)
        assert torch.equal(growing.layers[0].values, plain.layers[0].values)


def test_a_token_is_written_in_place():
    cache = DynamicCache()
    cache.update(_states(2, 5, 0), _states(2, 5, 1), 0)
    grow_in_place(cache)
    layer = cache.layers[0]
    places = set()
    for number in range(30):
        cache.update(_states(2, 1, number), _states(2, 1, number), 0)
        places.add(layer.keys.data_ptr())
    assert len(places) == 1
    assert layer.get_seq_length() == 35


def test_other_kinds_of_layers_stay():
    class Other(DynamicLayer):
        """A layer of another kind."""

    cache = DynamicCache()
    cache.layers = [Other()]
    grow_in_place(cache)
    assert type(cache.layers[0]) is Other
    assert grow_in_place(None) is None
