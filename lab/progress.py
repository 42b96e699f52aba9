"""How far a long task has come: a bar on a terminal, elsewhere a plain line now and then."""

import time

from tqdm import tqdm

PAUSE = 30  # seconds between two lines


class Progress(tqdm):
    """A tqdm bar that tells in plain lines what it cannot draw. Call ``update`` for each step or piece."""

    def __init__(self, label: str, unit: str, total: int | None = None, **how):
        super().__init__(desc=label, unit=unit, total=total, leave=False, disable=None, **how)
        self.label, self.piece, self.done = label, unit, 0  # a bar that draws nothing keeps neither label nor unit
        self.told = time.monotonic()

    def update(self, n: float = 1) -> None:
        super().update(n)
        self.done += n
        if self.disable and time.monotonic() - self.told > PAUSE:
            self.told = time.monotonic()
            print(self.line())

    def line(self) -> str:
        return f"{self.label}: {self.piece} {self.done} of {self.total}"
