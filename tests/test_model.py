import pytest
import torch

from passerby.learn.model import WIDTHS, OSNet, count_macs, count_parameters, load_body
from passerby.types import ModelError


def test_x0_75_has_the_size_that_the_paper_gives_without_a_classifier():
    model = OSNet("osnet_x0_75")
    assert count_parameters(model) == 1_285_754
    assert round(count_macs(model, height=256, width=128) / 1e6) == 572


def test_macs_follow_the_paper_for_x1_0():
    # Zhou et al. 2019, table 1: 978.9 M multiply-adds, 2.2 M parameters at 256x128
    model = OSNet("osnet_x1_0")
    assert round(count_macs(model) / 1e6, 1) == 978.9
    assert round(count_parameters(model) / 1e6, 1) == 2.2


@pytest.mark.parametrize("width", WIDTHS)
def test_embeddings_are_512_long_and_of_unit_length(width):
    model = OSNet(width).eval()
    vectors = model.embed(torch.randn(2, 3, 64, 32))
    assert vectors.shape == (2, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_an_unknown_width_is_refused():
    with pytest.raises(ModelError, match=r"expected one of .*osnet_x0_25.*got 'osnet_x2'"):
        OSNet("osnet_x2")


def torchreid_state(model: OSNet) -> dict[str, torch.Tensor]:
    """What torchreid publishes: the same names, behind DataParallel's prefix, with a classifier."""
    state = {f"module.{name}": torch.rand_like(value.float()) for name, value in model.state_dict().items()}
    return state | {"module.classifier.weight": torch.rand(751, 512), "module.classifier.bias": torch.rand(751)}


def test_a_torchreid_state_dict_loads_by_name():
    model = OSNet("osnet_x0_25")
    state = torchreid_state(model)
    assert load_body(model, state) == []
    assert torch.equal(model.conv3[1].gate.fc1.weight, state["module.conv3.1.gate.fc1.weight"])
    assert torch.equal(model.conv2[0].conv2d[3].conv1.weight, state["module.conv2.0.conv2d.3.conv1.weight"])
    assert torch.equal(model.conv3[2][0].conv.weight, state["module.conv3.2.0.conv.weight"])


def test_the_names_are_those_that_torchreid_uses():
    names = set(OSNet("osnet_x0_25").state_dict())
    # from the key list of the public osnet_x0_25_market.pth
    assert {
        "conv1.conv.weight",
        "conv1.bn.running_mean",
        "conv2.0.conv1.conv.weight",
        "conv2.0.conv2a.conv1.weight",
    } <= names
    assert {
        "conv2.0.conv2b.1.bn.weight",
        "conv2.0.gate.fc2.bias",
        "conv2.0.conv3.bn.bias",
        "conv5.bn.running_var",
    } <= names
    assert {"conv2.0.downsample.conv.weight", "conv2.2.0.conv.weight", "fc.0.weight", "fc.1.running_mean"} <= names


def test_a_state_dict_of_another_width_is_refused():
    with pytest.raises(ModelError, match="another width"):
        load_body(OSNet("osnet_x0_25"), torchreid_state(OSNet("osnet_x0_5")))


def test_a_state_dict_of_another_network_is_refused():
    with pytest.raises(ModelError, match=r"layer4\.weight"):
        load_body(OSNet("osnet_x0_25"), {"layer4.weight": torch.zeros(1)})
