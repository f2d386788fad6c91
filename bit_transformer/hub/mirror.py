"""Uploads the checkpoints of a run while it trains, and never breaks it."""

import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from bit_transformer.errors import BitTransformerError, UsageError
from bit_transformer.hub.contents import stage_checkpoint
from bit_transformer.hub.transfer import pull, push, resumable_step, who_am_i
from bit_transformer.training.callbacks.base import Callback, RunningTrainer
from bit_transformer.training.run_folder import RunFolder

Say = Callable[[str], None]
_FROZEN = ".upload-"


def _warn(text: str) -> None:
    print(f"bit-transformer: {text}", file=sys.stderr)


class HubMirror(Callback):
    """Keeps a repository at a run's newest checkpoint, training state included.

    Training does not wait for an upload: while one is under way the newest checkpoint waits, and
    older ones that wait are passed over. What goes wrong is told through `say`, and the next
    checkpoint is tried again. When the run ends the last upload is waited for.
    """

    def __init__(
        self,
        folder: Path,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = True,
        say: Say = _warn,
    ) -> None:
        self._folder, self._repository = folder, repo_id
        self._token, self._private, self._say = token, private, say
        self._lock = threading.Lock()
        self._waiting: Path | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"HubMirror({self._folder}, {self._repository})"

    def prepare(self) -> bool:
        """Bring what the hub has of this run into its folder, unless the run has begun there; True
        where it was brought and there is a state to go on from.

        Raises a `HubError` when the hub cannot say or refuses the token, and `UsageError` when it
        is further than the folder, or holds a model and no training state: going on would, later
        on, replace what it holds.
        """
        there = resumable_step(self._repository, token=self._token)
        run = RunFolder(self._folder)
        if there is None:
            who_am_i(self._token)
        elif not run.exists():
            self._say(f"{self._repository} is at step {there:,}: going on from there")
            pull(self._repository, self._folder, token=self._token)
            return True
        elif there > (here := max(run.checkpoints.steps(), default=0)):
            raise UsageError(
                f"{self._repository} is at step {there:,} and {self._folder} at {here:,}: going on "
                "from here would replace it; name a new folder with --out to go on from the hub"
            )
        return False

    def on_start(self, trainer: RunningTrainer) -> None:
        """Remove what a killed process has left of its uploads."""
        for left in self._folder.glob(f"{_FROZEN}*"):
            shutil.rmtree(left, ignore_errors=True)

    def on_checkpoint(self, trainer: RunningTrainer, path: Path) -> None:
        """Have this checkpoint uploaded, now or when the upload under way is done."""
        frozen = self._freeze(path)
        if frozen is None:
            return
        with self._lock:
            passed_over, self._waiting = self._waiting, frozen
            idle = self._thread is None
            if idle:
                self._thread = threading.Thread(target=self._upload_waiting, daemon=True)
        if passed_over is not None:
            shutil.rmtree(passed_over, ignore_errors=True)
        if idle and self._thread is not None:
            self._start(self._thread)

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # The system has no thread to spare.
            self._thread = None
            self._say(self._complaint(error))

    def on_close(self, trainer: RunningTrainer) -> None:
        """Wait for the last upload."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def push_result(self) -> bool:
        """Upload once more, with the report that the run has ended with; whether it succeeded."""
        return self._push(self._folder)

    def _freeze(self, path: Path) -> Path | None:
        """The run as it is now, under a name of its own: checkpoints are rotated away."""
        place = self._folder
        try:
            place = Path(tempfile.mkdtemp(prefix=_FROZEN, dir=self._folder))
            stage_checkpoint(path, place / "checkpoints" / path.name, training=True)
            for name in ("config.json", "metrics.jsonl"):
                shutil.copyfile(self._folder / name, place / name)
        except (OSError, BitTransformerError) as error:
            if place != self._folder:
                shutil.rmtree(place, ignore_errors=True)
            self._say(f"warning: the checkpoint {path.name} is not uploaded: {error}")
            return None
        return place

    def _upload_waiting(self) -> None:
        while True:
            with self._lock:
                frozen, self._waiting = self._waiting, None
                if frozen is None:
                    self._thread = None
                    return
            try:
                self._push(frozen)
            finally:
                shutil.rmtree(frozen, ignore_errors=True)

    def _push(self, source: Path) -> bool:
        try:
            push(
                source,
                self._repository,
                token=self._token,
                training=True,
                private=self._private,
                message="Upload a checkpoint of a run",
            )
        except Exception as error:  # Whatever it is, training goes on.
            self._say(self._complaint(error))
            return False
        return True

    def _complaint(self, error: Exception) -> str:
        what = str(error) if isinstance(error, BitTransformerError) else type(error).__name__
        return (
            f"warning: not uploaded to {self._repository}: {what}. The run is not affected; its "
            "next checkpoint is tried again, or: bit-transformer push "
            f"{self._folder} {self._repository} --training"
        )
