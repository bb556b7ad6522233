import pytest
import torch

from passerby.learn.model import (
    KINDS,
    WIDTHS,
    GroupGate,
    InstanceNorm,
    LearnedPool,
    OSNet,
    count_macs,
    count_parameters,
    load_body,
)
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


@pytest.mark.parametrize("architecture", [*WIDTHS, *(f"{kind}_x0_25" for kind in KINDS)])
def test_embeddings_are_512_long_and_of_unit_length(architecture):
    model = OSNet(architecture).eval()
    vectors = model.embed(torch.randn(2, 3, 64, 32))
    assert vectors.shape == (2, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("architecture", ["osnet_x2", "osnet", "resnet_x0_25"])
def test_an_unknown_architecture_is_refused(architecture):
    with pytest.raises(ModelError, match=rf"expected one of .*osnet_x0_25.*got '{architecture}'"):
        OSNet(architecture)


@pytest.mark.parametrize(("kind", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_instance_norm_in_training_is_torchs_with_its_gradient_and_stays_channels_last(kind, rounding):
    torch.manual_seed(0)
    norm, x = InstanceNorm(6), (torch.randn(3, 6, 8, 4) + 2).contiguous(memory_format=torch.channels_last)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    towards = torch.randn_like(x)
    found = []
    for training, precision in ((True, kind), (False, torch.float32)):
        given = x.to(precision).requires_grad_()
        y = norm.train(training)(given)
        found.append((y.float(), *torch.autograd.grad((y * towards).sum(), [given, norm.weight, norm.bias])))
        assert not training or y.is_contiguous(memory_format=torch.channels_last)
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours.float(), torchs, atol=rounding * float(torchs.detach().abs().max()), rtol=0)


@pytest.mark.parametrize("kind", ["osnet_in", "osnet_ibn", "osnet_ain", "osnet_gates"])
def test_an_instance_norm_in_the_stem_hides_the_contrast_of_the_whole_picture(kind):
    torch.manual_seed(0)
    model, x = OSNet(f"{kind}_x0_25").eval(), torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(model.embed(x), model.embed(2 * x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels", [16, 24, 48])  # the gated blocks of x0.25 and x0.75
def test_a_group_gate_looks_at_its_input_in_narrow_networks_too(channels):
    torch.manual_seed(0)
    gate, x = GroupGate(channels), torch.rand(2, channels, 4, 2) + 0.1
    assert (gate(x) / x).std() > 0.01


def test_a_learned_pool_begins_as_the_average_and_keeps_its_sum_at_other_sizes():
    pool, x = LearnedPool(5, (16, 8)), torch.randn(2, 5, 16, 8)
    torch.testing.assert_close(pool(x), x.mean((2, 3)))
    torch.nn.init.uniform_(pool.weight)
    flat = torch.ones(1, 5, 8, 4)
    torch.testing.assert_close(pool(flat)[0], pool.weight.sum((1, 2)))


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
