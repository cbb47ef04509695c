"""Shared by all tests."""

import torch
from hypothesis import settings

torch.set_num_threads(1)  # the models are tiny, threads would only wait for each other
settings.register_profile("shared machine", deadline=None)  # how long an example takes is no finding
settings.load_profile("shared machine")
