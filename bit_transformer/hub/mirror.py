"""Uploads the checkpoints of a run while it trains, and never interrupts it."""

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

_FROZEN = ".upload-"


def _print_to_stderr(text: str) -> None:
    print(f"bit-transformer: {text}", file=sys.stderr)


class HubMirror(Callback):
    """Uploads a run's newest checkpoint, with its training state, to a repository.

    Training does not wait for an upload. While one runs, only the newest checkpoint waits for the
    next upload; older ones are skipped. Errors go to `report`, and later checkpoints are uploaded
    as usual. The end of the run waits for the last upload.
    """

    def __init__(
        self,
        folder: Path,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = True,
        report: Callable[[str], None] = _print_to_stderr,
    ) -> None:
        self._folder, self._repository = folder, repo_id
        self._token, self._private, self._report = token, private, report
        self._lock = threading.Lock()
        self._waiting: Path | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"HubMirror({self._folder}, {self._repository})"

    def prepare(self) -> bool:
        """Download the run from the hub unless its folder already holds it. Return whether it did.

        Raises a `HubError` if the hub does not answer or refuses the token. Raises `UsageError` if
        the hub is ahead of the folder, or holds a model without training state, because a later
        upload would replace it.
        """
        remote_step = resumable_step(self._repository, token=self._token)
        run = RunFolder(self._folder)
        if remote_step is None:
            who_am_i(self._token)
        elif not run.exists():
            self._report(f"{self._repository} is at step {remote_step:,}: continuing from there")
            pull(self._repository, self._folder, token=self._token)
            return True
        elif remote_step > (step := max(run.checkpoints.steps(), default=0)):
            raise UsageError(
                f"{self._repository} is at step {remote_step:,} and would be replaced by "
                f"{self._folder}, which is at {step:,}; to continue from the hub, use --out with a "
                "new folder"
            )
        return False

    def on_start(self, trainer: RunningTrainer) -> None:
        """Remove the frozen copies of a killed process."""
        for left in self._folder.glob(f"{_FROZEN}*"):
            shutil.rmtree(left, ignore_errors=True)

    def on_checkpoint(self, trainer: RunningTrainer, path: Path) -> None:
        """Upload this checkpoint in the background, after the current upload."""
        frozen = self._freeze(path)
        if frozen is None:
            return
        with self._lock:
            skipped, self._waiting = self._waiting, frozen
            idle = self._thread is None
            if idle:
                self._thread = threading.Thread(target=self._upload_waiting, daemon=True)
        if skipped is not None:
            shutil.rmtree(skipped, ignore_errors=True)
        if idle and self._thread is not None:
            self._start(self._thread)

    def _start(self, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # The system cannot start another thread.
            self._thread = None
            self._report(self._warning(error))

    def on_close(self, trainer: RunningTrainer) -> None:
        """Wait for the last upload."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def push_result(self) -> bool:
        """Upload the report at the end of the run. Return whether that succeeded."""
        return self._push(self._folder)

    def _freeze(self, path: Path) -> Path | None:
        """Link the current run into its own folder, because training removes old checkpoints."""
        place = self._folder
        try:
            place = Path(tempfile.mkdtemp(prefix=_FROZEN, dir=self._folder))
            stage_checkpoint(path, place / "checkpoints" / path.name, training=True)
            for name in ("config.json", "metrics.jsonl"):
                shutil.copyfile(self._folder / name, place / name)
        except (OSError, BitTransformerError) as error:
            if place != self._folder:
                shutil.rmtree(place, ignore_errors=True)
            self._report(f"warning: the checkpoint {path.name} is not uploaded: {error}")
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
        except Exception as error:  # Training continues after any error.
            self._report(self._warning(error))
            return False
        return True

    def _warning(self, error: Exception) -> str:
        reason = str(error) if isinstance(error, BitTransformerError) else type(error).__name__
        return (
            f"warning: not uploaded to {self._repository}: {reason}. The run is not affected; "
            "the next checkpoint is tried again. To upload now: bit-transformer push "
            f"{self._folder} {self._repository} --training"
        )
