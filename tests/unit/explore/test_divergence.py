"""Divergences of outputs, against their definitions."""

import math
from collections import OrderedDict

import torch

from quire.explore.divergence import ERROR, KL, is_logits, tensors_of

LOGITS = torch.tensor([[[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]]])
OTHER = torch.tensor([[[0.5, 1.0, 1.0], [2.0, -1.0, 0.5]]])


def test_kl_is_the_sum_over_rows_of_p_log_p_over_q() -> None:
    p, q = LOGITS.double().softmax(-1), OTHER.double().softmax(-1)
    expected = float((p * (p / q).log()).sum())
    distance, rows = KL.total([LOGITS], [OTHER])
    assert math.isclose(distance, expected, rel_tol=1e-12)
    assert rows == 2
    assert KL.total([LOGITS], [LOGITS]) == (0.0, 2.0)


def test_a_label_of_probability_zero_adds_nothing() -> None:
    masked = torch.tensor([[0.0, 1.0, -math.inf]])
    assert KL.total([masked], [masked]) == (0.0, 1.0)
    p, q = torch.tensor([0.0, 1.0]).double().softmax(0), LOGITS[0, 0].double().softmax(0)
    expected = float((p * (p / q[:2]).log()).sum())
    assert math.isclose(KL.total([masked], [LOGITS[0, :1]])[0], expected, rel_tol=1e-12)


def test_the_error_energy_leaves_masked_outputs_out() -> None:
    reference = torch.tensor([3.0, 4.0, -math.inf])
    assert ERROR.total([reference], [torch.tensor([3.0, 6.0, -math.inf])]) == (4.0, 25.0)


def test_the_mean_over_batches_is_weighted_by_rows() -> None:
    assert KL.mean([(1.0, 2.0), (5.0, 1.0)]) == 2.0
    assert KL.mean([(math.nan, 2.0)]) == math.inf
    assert ERROR.mean([(1.0, 0.0)]) == math.inf


def test_logits_are_found_in_a_mapping_or_as_the_only_output() -> None:
    output = OrderedDict(loss=torch.zeros(()), logits=LOGITS)
    assert tensors_of(output) == [LOGITS]
    assert tensors_of((LOGITS, torch.tensor([1]))) == [LOGITS]
    assert is_logits([LOGITS])
    assert not is_logits([LOGITS, LOGITS])
    assert not is_logits([torch.zeros(5)])
    assert not is_logits([torch.zeros(5, 1)])


def test_drawn_labels_follow_the_model_and_have_mean_zero_gradients() -> None:
    logits = LOGITS[0, :1].expand(20000, 3)
    (gradient,) = KL.cotangent([logits], torch.Generator().manual_seed(0))
    p = logits[0].softmax(0)
    labels = (p - gradient).round()
    assert torch.equal(labels.sum(1), torch.ones(20000))
    assert (labels.mean(0) - p).abs().max() < 0.01
    assert gradient.mean(0).abs().max() < 0.01
