"""Measure the latency of /status and the memory of the server while it streams a training.

    python benchmarks/bench_server.py --seconds 300 --clients 50

The training takes all cores, as trainings do. Every client checks that no event is missing.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from report import write_result

from bit_transformer.server.client import Client
from bit_transformer.server.operations import OPERATIONS

_ASK_EVERY = 0.05
_WARM_UP = 10.0
_BODY = {
    # A small model does dozens of steps per second, and each is an event for every client.
    "model": {"d_model": 64, "nhead": 2, "num_layers": 2, "dim_feedforward": 128},
    "train": {"steps": 10_000_000, "batch_size": 4, "window_bytes": 128, "evaluate_every": 0},
    "optimizer": {"optimizer": "adamw"},
}


def start(runs: Path) -> tuple[subprocess.Popen[str], Client]:
    """Start a server on a free port, in a process of its own."""
    words = [sys.executable, "-m", "bit_transformer", "serve", "--port", "0", "--runs", str(runs)]
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": root}
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    url = server.stdout.readline().split(" on ")[1].split(",")[0]
    return server, Client(url, (runs / ".server" / "token").read_text().strip())


def begin_training(client: Client) -> str:
    """Start a training and return its job once it has done five steps."""
    job: str = client.call(OPERATIONS["train"], _BODY)["id"]
    while (_progress(client, job)["done"] or 0) < 5:
        time.sleep(0.5)
    return job


def _progress(client: Client, job: str) -> dict[str, Any]:
    found = client.call(OPERATIONS["get_job"], {"job": job})["progress"]
    return found or {"done": 0}


async def _request(client: Client, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = client.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {client.token}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await writer.drain()
    return reader, writer


async def listen(client: Client, job: str, heard: list[int]) -> None:
    """Follow a job and collect the numbers of its events. Fails when one is missing."""
    reader, writer = await _request(client, f"/jobs/{job}/events")
    try:
        async for line in reader:
            if line.startswith(b"id: "):
                number = int(line[4:])
                assert number == len(heard) + 1, f"event {number} after {len(heard)}"
                heard.append(number)
    finally:
        writer.close()


async def ask(client: Client, latencies: list[float]) -> None:
    """Request /status repeatedly, each time on a new connection."""
    while True:
        began = time.perf_counter()
        reader, writer = await _request(client, "/status")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        json.loads(await reader.readexactly(size))
        latencies.append(time.perf_counter() - began)
        writer.close()
        await asyncio.sleep(_ASK_EVERY)


async def watch_memory(pid: int, samples: list[int]) -> None:
    """Append the resident bytes of a process once a second."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        samples.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page)
        await asyncio.sleep(1.0)


async def measure(
    client: Client, job: str, pid: int, clients: int, seconds: float
) -> dict[str, Any]:
    """Events, latencies and memory while the server streams to `clients` for `seconds`."""
    heard: list[list[int]] = [[] for _ in range(clients)]
    latencies: list[float] = []
    memory: list[int] = []
    tasks = [asyncio.create_task(listen(client, job, one)) for one in heard]
    await asyncio.sleep(_WARM_UP)
    tasks += [
        asyncio.create_task(ask(client, latencies)),
        asyncio.create_task(watch_memory(pid, memory)),
    ]
    done, _ = await asyncio.wait(tasks, timeout=seconds)
    for task in done:
        raise RuntimeError("a client ended early") from task.exception()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tenth = max(1, len(memory) // 10)
    return {
        "events": [len(one) for one in heard],
        "latencies": latencies,
        "memory": memory,
        "memory_ratio": float(np.median(memory[-tenth:]) / np.median(memory[:tenth])),
    }


def percentile(values: list[float], share: float) -> float:
    """A percentile of seconds, in milliseconds."""
    return float(np.percentile(values, share)) * 1000


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server, client = start(Path(folder) / "runs")
        job = ""
        try:
            job = begin_training(client)
            found = asyncio.run(
                measure(client, job, server.pid, arguments.clients, arguments.seconds)
            )
        finally:
            _end(client, job, server)
    report(found, arguments.clients, arguments.seconds)


def _end(client: Client, job: str, server: subprocess.Popen[str]) -> None:
    while job and client.call(OPERATIONS["get_job"], {"job": job})["ended"] is None:
        # The first request stops the training. A second one stops the last evaluation.
        client.call(OPERATIONS["cancel_job"], {"job": job})
        time.sleep(1.0)
    server.terminate()
    server.wait()


def report(found: dict[str, Any], clients: int, seconds: float) -> None:
    """Write the result."""
    latencies, memory, events = found["latencies"], found["memory"], found["events"]
    rows = [
        ["clients streaming one training", clients],
        ["seconds", seconds],
        ["events per client, lowest", min(events)],
        ["events per client, highest", max(events)],
        ["/status answers", len(latencies)],
        ["/status, median, ms", percentile(latencies, 50)],
        ["/status, p99, ms", percentile(latencies, 99)],
        ["/status, slowest, ms", percentile(latencies, 100)],
        ["resident memory at the start, MiB", memory[0] / 2**20],
        ["resident memory at the end, MiB", memory[-1] / 2**20],
        ["resident memory, highest, MiB", max(memory) / 2**20],
        ["memory, last tenth / first tenth", found["memory_ratio"]],
    ]
    write_result(
        "server",
        summary="The management server while it streams a training on all cores to many clients. "
        "/status is requested on new connections, 20 times a second. No event was missing.",
        columns=("", "measured"),
        rows=rows,
        details={"memory": memory},
    )


if __name__ == "__main__":
    main()
