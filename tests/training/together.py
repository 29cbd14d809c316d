"""Several processes that train together, started from one that has loaded everything."""

import multiprocessing
import os
import signal
import socket
import time
import traceback
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["jepalm.session", "jepalm.config", "torch.distributed.checkpoint"])


def together(folder, job, *given, n=2, timeout=300):
    """Run `job(*given)` in n processes; returns each one's traceback, empty where there is none."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    folder.mkdir(exist_ok=True)
    processes = [
        CONTEXT.Process(target=_begin, args=(rank, n, port, folder, job, given)) for rank in range(n)
    ]
    for process in processes:
        process.start()
    until = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        process.kill()
    files = [folder / f"{rank}.txt" for rank in range(n)]
    return [file.read_text() if file.exists() else "killed" for file in files]


def _begin(rank, n, port, folder, job, given):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n), MASTER_PORT=str(port))
    os.environ.update(MASTER_ADDR="127.0.0.1")
    said = ""
    try:
        job(*given)
    except BaseException:
        said = traceback.format_exc()
    (folder / f"{rank}.txt").write_text(said)
    os._exit(bool(said))


def train(settings, data_root, runs):
    """Train a run of nano with these settings in a folder."""
    from jepalm.config import resolve
    from jepalm.session import new_session
    from jepalm.training.estimate import Estimate

    with new_session(resolve("nano", overrides=settings), data_root) as session:
        session.train(session.open_folder(runs, None, Estimate(0.0, 0, 0, 0)), None)


def resume(path, settings, data_root):
    """Go on with a run."""
    from jepalm.session import resumed_session
    from jepalm.training.estimate import Estimate

    with resumed_session(path, {}, settings, data_root) as session:
        session.train(session.open_folder(path.parent, None, Estimate(0.0, 0, 0, 0)), None)


def train_until_one_dies(settings, data_root, runs, step):
    """Train, and kill the second process at a step."""
    from jepalm.training.trainer import Trainer

    before = Trainer._train_step

    def train_step(self):
        if self.state.step == step and self.processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        before(self)

    Trainer._train_step = train_step
    train(settings, data_root, runs)


def only_run(runs: Path):
    """The one run in a folder."""
    from jepalm.run import RunFolder

    (path,) = (path for path in runs.iterdir() if not path.is_symlink())
    return RunFolder(path)
