"""Sparse weights and k-winners in a training loop of your own, on the digits of scikit-learn.

It needs `pip install scikit-learn`.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import gossamer as gs

x, y = load_digits(return_X_y=True)
x = torch.tensor(x, dtype=torch.float32) / 16
y = torch.tensor(y)
order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
train, test = order[:1400], order[1400:]

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), gs.KWinners(256, density=0.1), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
batches = torch.utils.data.DataLoader(train, batch_size=50, shuffle=True)
epochs = 20
sparsifier = gs.Sparsifier(model, density=0.2, total_steps=epochs * len(batches)).attach(optimizer)

for _epoch in range(epochs):
    model.train()
    for batch in batches:
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # the masks are applied right after it
    gs.nn.decay_boost(model)

model.eval()
accuracy = (model(x[test]).argmax(1) == y[test]).float().mean()
for name, (kept, total) in sparsifier.counts().items():
    print(f"layer {name}: {kept} of {total} weights")
print(f"accuracy on unseen digits: {accuracy:.1%}")
