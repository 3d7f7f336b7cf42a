from __future__ import annotations

import pytest
import torch

from clamr_cli.devices import choose_device
from clamr_cli.errors import ModelError


def test_automatic_is_the_first_device_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == "mps"
    assert choose_device("auto", automatic=("cuda",)) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("cpu") == "cpu"
    with pytest.raises(ModelError, match="invalid device: 'abacus'"):
        choose_device("abacus")
    with pytest.raises(ModelError, match=r"no CUDA device.*go elsewhere"):
        choose_device("cuda", hint="go elsewhere")
