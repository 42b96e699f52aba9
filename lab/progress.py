"""How far a long task has come: a bar on a terminal, elsewhere a plain line now and then."""

import os
import sys
import time

from tqdm import tqdm

PAUSE = 30  # seconds between two lines


class Progress(tqdm):
    """A tqdm bar that tells in plain lines what it cannot draw. Call ``update`` for each step or piece.

    ``later`` steps follow when its ``total`` is done, each in a bar of its own; the time left is that of all together.
    """

    def __init__(self, label: str, unit: str, total: int | None = None, later: int = 0, **how):
        drawn = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{rate_fmt}{postfix}]"
        disable = None if has_room() else True  # None: where there is no terminal
        super().__init__(desc=label, unit=unit, total=total, leave=False, bar_format=drawn, disable=disable, **how)
        self.label, self.piece, self.done = label, unit, 0  # a bar that draws nothing keeps neither label nor unit
        self.later, self.started = later, time.monotonic()
        self.told = self.started

    def update(self, n: float = 1) -> None:
        self.done += n
        self.set_postfix_str(f"{self.left()} left", refresh=False)
        super().update(n)
        if self.disable and time.monotonic() - self.told > PAUSE:
            self.told = time.monotonic()
            print(self.line())

    def left(self) -> str:
        """The time that everything still takes at the pace until now, as [hours:]minutes:seconds."""
        if not (self.total and self.done):
            return "?"
        seconds = (time.monotonic() - self.started) / self.done
        return self.format_interval(seconds * max(0, self.total - self.done + self.later))

    def line(self) -> str:
        return f"{self.label}: {self.piece} {self.done} of {self.total}, {self.left()} left"


def has_room() -> bool:
    """False on a terminal that says that it has no columns or no lines, where nothing can be drawn."""
    try:
        return all(os.get_terminal_size(sys.stderr.fileno()))
    except (OSError, ValueError, AttributeError):  # no terminal, or no file
        return True
