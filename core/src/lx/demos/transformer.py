"""A language model that is a transformer, and a language for it to learn."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lx.module import LightningModule
from lx.types import STEP_OUTPUT, OptimizerLRScheduler


class Transformer(nn.Module):
    """Predicts each word from those before it: `forward(inputs, target)` gives log probabilities, (words of all rows, `vocab_size`).

    `inputs` and `target` are (batch, length), integers below `vocab_size`; `target` goes into the decoder, and each of its places sees
    those up to it alone. `ninp` is the width of a word, `nhid` that of the layers within, `nhead` the number of attention heads.

    >>> Transformer(vocab_size=7, ninp=8, nhid=8)(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long)).shape
    torch.Size([10, 7])
    """

    def __init__(
        self, vocab_size: int = 1000, ninp: int = 200, nhead: int = 2, nhid: int = 200, nlayers: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.ninp = ninp
        self.embedding = nn.Embedding(vocab_size, ninp)
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Transformer(
            d_model=ninp,
            nhead=nhead,
            num_encoder_layers=nlayers,
            num_decoder_layers=nlayers,
            dim_feedforward=nhid,
            dropout=dropout,
            batch_first=True,
        )
        self.decoder = nn.Linear(ninp, vocab_size)

    def forward(self, inputs: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The log probabilities; `mask` says which places of the target see which (default: those up to them)."""
        if mask is None:
            mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], device=target.device)
        words = self.transformer(self._embedded(inputs), self._embedded(target), tgt_mask=mask)
        return nn.functional.log_softmax(self.decoder(words).flatten(0, 1), dim=-1)

    def _embedded(self, words: Tensor) -> Tensor:
        """The words as vectors, with waves added that tell their places."""
        place = torch.arange(words.shape[1], device=words.device).unsqueeze(1)
        rates = torch.exp(torch.arange(0, self.ninp, 2, device=words.device) * (-math.log(10_000.0) / self.ninp))
        waves = torch.stack([torch.sin(place * rates), torch.cos(place * rates)], dim=-1).flatten(1)[:, : self.ninp]
        embedded = self.embedding(words) * math.sqrt(self.ninp)
        return self.dropout(embedded + waves.to(embedded.dtype))  # type: ignore[no-any-return]


class MadeUpText(Dataset[tuple[Tensor, Tensor]]):
    """Rows of a language in which each word is followed by one of three, the same text each time: (words, the words one place later).

    >>> words, following = MadeUpText(blocks=4, block_size=5)[0]
    >>> words.shape, torch.equal(words[1:], following[:-1])
    (torch.Size([5]), True)
    """

    def __init__(self, blocks: int = 256, block_size: int = 35, vocab_size: int = 1000, seed: int = 0) -> None:
        self.block_size, self.vocab_size = block_size, vocab_size
        draw = torch.Generator().manual_seed(seed)
        followers = torch.randint(vocab_size, (vocab_size, 3), generator=draw).tolist()
        word, words = 0, []
        for choice in torch.randint(3, (blocks * block_size + 1,), generator=draw).tolist():
            words.append(word)
            word = followers[word][choice]
        self.words = torch.tensor(words)

    def __len__(self) -> int:
        return (len(self.words) - 1) // self.block_size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = range(len(self))[index] * self.block_size
        row = self.words[start : start + self.block_size + 1]
        return row[:-1], row[1:]


class LightningTransformer(LightningModule):
    """A `Transformer` that is trained on `MadeUpText`: `Trainer().fit(LightningTransformer())` works.

    >>> LightningTransformer(vocab_size=7).vocab_size
    7
    """

    def __init__(self, vocab_size: int = 1000) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.model = Transformer(vocab_size=vocab_size)

    def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
        """The log probabilities."""
        return self.model(inputs, target)  # type: ignore[no-any-return]

    def training_step(self, batch: Any, batch_idx: int) -> STEP_OUTPUT:
        """Returns the loss of the words that follow."""
        words, following = batch
        return nn.functional.nll_loss(self(words, words), following.reshape(-1))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """SGD."""
        return torch.optim.SGD(self.model.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Any]:
        """Rows of the text."""
        return DataLoader(MadeUpText(vocab_size=self.vocab_size), batch_size=8)
