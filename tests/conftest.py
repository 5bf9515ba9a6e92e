import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the problems are small, and threads that wait for each other slow a busy machine down

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
