"""Writes the state_dict() of a PyTorch module with np.savez, and an output of the module.

    python3 make_parameters.py FOLDER

layers.npz has the parameters and buffers, layers_check.npz an input and the output in eval(). Needs
PyTorch. tests/tensor/parameters.cpp has the same module in C++.
"""

import pathlib
import sys

import numpy as np
import torch
from torch import nn


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.attention = nn.TransformerEncoderLayer(4, 2, 8)
        self.recurrent = nn.LSTM(4, 3, 2, bidirectional=True)
        self.head = nn.Sequential(nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 2, 3, bias=False))

    def forward(self, tokens):
        hidden, _ = self.recurrent(self.attention(self.embedding(tokens)))
        return self.head(hidden.permute(1, 2, 0))


def main():
    folder = pathlib.Path(sys.argv[-1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    layers = Layers()
    tokens = torch.randint(0, 5, (7, 3))
    for _ in range(3):
        layers(tokens)  # changes the buffers of BatchNorm
    layers.eval()
    with torch.no_grad():
        output = layers(tokens)
    state = {k: v.numpy() for k, v in layers.state_dict().items()}
    np.savez(folder / "layers.npz", **state)
    np.savez(folder / "layers_check.npz", input=tokens.numpy(), output=output.numpy())
    print(f"{len(state)} arrays, by PyTorch {torch.__version__} and NumPy {np.__version__}")


if __name__ == "__main__":
    main()
