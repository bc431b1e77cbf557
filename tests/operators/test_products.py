"""Products through oneDNN: the truth within float32's rounding, and rows that do not know their neighbours."""

from __future__ import annotations

import copy

import families
import pytest
import torch
from torch import nn

from operators.products import Linear, available, fastest, linear, use_fast_products

pytestmark = pytest.mark.skipif(
    not available(torch.device("cpu"), torch.float32), reason="this torch was built without oneDNN"
)


SIZES = ((768, 2304), (3072, 96), (256, 688), (24, 331), (31, 77), (5, 2))
ROWS = (1, 2, 3, 4, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 200)


def factors(width: int, columns: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(width)
    return (
        torch.randn(260, width, generator=draw),
        torch.randn(columns, width, generator=draw),
        torch.randn(columns, generator=draw),
    )


@pytest.mark.parametrize(("width", "columns"), SIZES)
def test_products_err_by_no_more_than_float32_may(width: int, columns: int) -> None:
    x, weight, bias = factors(width, columns)
    exact = x.double() @ weight.double().T + bias.double()
    # |error| <= K u sum |x||w|, the bound of any order of summation; u = 2^-24.
    bound = (width + 1) * 2**-24 * (x.double().abs() @ weight.double().abs().T + bias.double().abs())
    assert ((linear(x, weight, bias).double() - exact).abs() <= bound).all()
    # Far inside the bound in the mean: a product in bfloat16 or TF32 would err a thousand times as much.
    plain = torch.nn.functional.linear(x, weight, bias).double() - exact
    assert (linear(x, weight, bias).double() - exact).square().mean().sqrt() <= 3 * plain.square().mean().sqrt()


@pytest.mark.parametrize(("width", "columns"), SIZES)
def test_a_row_keeps_its_bits_whatever_stands_beside_it(width: int, columns: int) -> None:
    x, weight, bias = factors(width, columns)
    whole = linear(x, weight, bias)
    for rows in ROWS:
        for first in (0, 3, 41):
            part = linear(x[first : first + rows], weight, bias)
            assert torch.equal(part, whole[first : first + rows]), (rows, first)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.equal(linear(x[order], weight, bias), whole[order])


@pytest.mark.parametrize(("width", "columns"), SIZES)
def test_a_column_keeps_its_bits_whatever_stands_beside_it(width: int, columns: int) -> None:
    x, weight, _ = factors(width, columns)
    whole = linear(x, weight)
    for count in (1, 2, 3, 17, 64, 65):
        assert torch.equal(linear(x, weight[:count]), whole[:, : min(count, columns)]), count
    assert torch.equal(linear(x[:1], weight[-1:]), whole[:1, -1:])


def test_the_fastest_product_is_torchs_own_where_onednn_does_not_serve() -> None:
    assert fastest(torch.device("cpu"), torch.float32) is linear
    assert fastest(torch.device("cpu"), torch.bfloat16) is nn.functional.linear
    assert fastest(torch.device("meta"), torch.float32) is nn.functional.linear


def test_shapes_of_linear_layers_are_kept() -> None:
    x, weight, bias = factors(24, 331)
    assert torch.equal(linear(x.view(4, 65, 24), weight, bias), linear(x, weight, bias).view(4, 65, 331))
    assert torch.equal(linear(x[None, :1], weight, bias), linear(x, weight, bias)[None, :1])
    assert linear(x[:0], weight, bias).shape == (0, 331)
    assert torch.equal(linear(x.t().contiguous().t(), weight, bias), linear(x, weight, bias))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_body_gives_the_same_hidden_states_through_replaced_layers(family: str) -> None:
    model = families.make_model(family, sharpness=3.0)
    body = model.base_model
    ids = torch.randint(0, 331, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = body(ids, use_cache=False).last_hidden_state
        exact = copy.deepcopy(body).double()(ids, use_cache=False).last_hidden_state
        layers = sum(type(m).__name__ in ("Linear", "Conv1D") for m in body.modules())
        assert use_fast_products(body) == layers > 0
        after = body(ids, use_cache=False).last_hidden_state
    error, plain = ((x.double() - exact).square().mean().sqrt() for x in (after, before))
    assert error <= 2 * plain
    assert use_fast_products(body) == 0


def test_long_sums_are_added_in_pieces() -> None:
    """Less rounding than one run, the whole weight for who asks, and rows that keep their bits."""
    layer = nn.Linear(3072, 40)
    body = nn.Sequential(layer)
    x = torch.randn(200, 3072, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = copy.deepcopy(layer).double()(x.double())
        in_one_run = linear(x, layer.weight, layer.bias)
        assert use_fast_products(body) == 1
        got = body(x)
        alone = torch.cat([body(x[i : i + 1]) for i in range(0, 200, 17)])
    assert torch.equal(body[0].weight, layer.weight)
    assert torch.equal(body[0].bias, layer.bias)
    assert torch.equal(alone, got[::17])
    error, longer = ((y.double() - exact).square().mean().sqrt() for y in (got, in_one_run))
    assert error < 0.8 * longer


def test_layers_that_do_more_or_are_not_float32_stay() -> None:
    class Scaled(nn.Linear):
        """A layer of a derived class."""

    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda *_: None)
    body = nn.Sequential(nn.Linear(4, 4), Scaled(4, 4), nn.Linear(4, 4).bfloat16(), hooked)
    assert use_fast_products(body) == 1
    assert [type(layer) for layer in body] == [Linear, Scaled, nn.Linear, nn.Linear]
    assert list(body[0].state_dict()) == ["weight", "bias"]
