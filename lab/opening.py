"""How a run begins: its flags are read, its folders made, no other process may train it."""

import contextlib
from collections.abc import Iterator

import torch

from lab import checkpoint, cifar10, exits, files, flags, precision
from lab.flags import Run


@contextlib.contextmanager
def open_run(description: str, defaults: dict, argv: list[str] | None, recipe: dict) -> Iterator[Run]:
    """The run that the flags describe (``argv``, else the command line); inside, no other process can train it.

    ``defaults`` are the task's name, epochs, batch_size and lr; ``recipe`` is what --recipe changes.
    Raises SystemExit if anything went wrong, with code 2 for wrong flags, 130 for Ctrl-C, 143 for SIGTERM, else 1.
    """
    exits.make_output_safe()
    run = flags.parse(description, defaults, argv, recipe)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exits.told_in_one_line(lambda error: checkpoint.advice(run, error), run.device))
        stack.enter_context(precision.without_tf32(run.device))
        stack.enter_context(torch.autocast(run.device.type, enabled=False))  # instead of somebody else's
        if run.dry_run or run.test:  # torch, too, leaves nothing then
            folder = stack.enter_context(files.temporary_folder())
            run.output_dir = folder if run.dry_run else run.output_dir
        if not (run.test or run.predict):
            try:
                files.make_folders(run.files)
            except OSError as error:
                exits.refuse(f"argument --output-dir: cannot write to {run.output_dir}: {error.strerror}")
            cifar10.fall_back_on_sample(run)
            stack.enter_context(files.only_process(run.files))
        if not run.needs_no_training:
            run.state = checkpoint.unfinished_state(run)
            checkpoint.announce(run)
        yield run
