"""Trains a small network on the digits with PyTorch, and saves it for the example from_pytorch.

    python3 make_model.py [folder]        default: the folder of this script

Needs NumPy and PyTorch. Writes model.npz, the state_dict() of the network, and model_check.npz, a
batch of images and what the network computes for them.
"""

import pathlib
import sys

import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(64, 10)

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


def main():
    here = pathlib.Path(__file__).resolve().parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here
    images = torch.from_numpy(np.load(here / "images.npy")).unsqueeze(1).float() / 16
    labels = torch.from_numpy(np.load(here / "labels.npy"))

    train = 1437  # four fifths; the others are for the test

    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(20):
        for batch in torch.randperm(train).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()

    network.eval()
    with torch.no_grad():
        scores = network(images)
    right = (scores.argmax(1) == labels)[train:]
    print(f"{right.sum()} of {len(right)} images that it was not trained on are recognized")
    np.savez(folder / "model.npz", **{k: v.numpy() for k, v in network.state_dict().items()})
    np.savez(folder / "model_check.npz", images=images[:8].numpy(), scores=scores[:8].numpy())


if __name__ == "__main__":
    main()
