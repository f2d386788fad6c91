"""Writes checkpoints in child processes that are killed. Each line on standard input is an order.

    loop FOLDER LOG        save one step after another until killed
    script FOLDER LOG K    save a fixed list of steps, and be killed at the K-th change to the disk

Each child writes `begin N` and `done N` to LOG. The program prints the process id of the child.
When the child has ended, the program prints `killed` or `exit STATUS`.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from bit_transformer.checkpoint.rotation import CheckpointFolder

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def save(folder: CheckpointFolder, step: int, log: int) -> None:
    os.write(log, f"begin {step}\n".encode())
    state = {"step": step, "momentum": torch.full((2000,), float(step))}
    weights = {"w": torch.full((2000,), float(step))}
    folder.save(step, weights=weights, config={}, training_state=state, metadata={"step": step})
    os.write(log, f"done {step}\n".encode())


def loop(folder: CheckpointFolder, log: int) -> None:
    step = max(folder.steps(), default=0)
    while True:
        step += 1
        save(folder, step, log)
        folder.prune(2)


def script(folder: CheckpointFolder, log: int, changes: int) -> None:
    left = changes

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[1], str) and "x" in arguments[1]
        if event in CHANGES or writes:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    for step in (1, 1, 2, 3, 3):
        save(folder, step, log)
        folder.prune(1)


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        order, path, log_path, *numbers = line.split()
        child = os.fork()
        if child == 0:
            log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            folder = CheckpointFolder(Path(path))
            if order == "loop":
                loop(folder, log)
            script(folder, log, int(numbers[0]))
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}", flush=True)


if __name__ == "__main__":
    main()
