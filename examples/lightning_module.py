"""The learning rate for a LightningModule: handwritten digits, trained by Lightning's own Trainer.

Run it: `python examples/lightning_module.py`
"""

import lightning as L
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(
    torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y), test_size=0.2, random_state=0
)


class Digits(L.LightningModule):
    """An MLP with Adam and a cosine decay that ends with the training."""

    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_steps)
        return [optimizer], [{"scheduler": cosine, "interval": "step"}]


class Images(L.LightningDataModule):
    """The digits, four fifths for training."""

    def train_dataloader(self):
        return DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(x_val, y_val), batch_size=512)


def main():
    trainer = L.Trainer(max_steps=300, accelerator="cpu")
    finding = eta.find(lambda lr: Digits(lr=lr), trainer=trainer, datamodule=Images())  # the one added line
    print(finding)


if __name__ == "__main__":
    main()
