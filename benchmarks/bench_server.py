"""The server while it streams a training to many clients: how fast /status answers, and its memory.

The training takes all cores, as trainings do. Clients check that no event is missing. Regenerate:

    python benchmarks/bench_server.py --seconds 300 --clients 50
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
    # Small, so that events come fast: some dozen steps a second, each sent to every client.
    "model": {"d_model": 64, "nhead": 2, "num_layers": 2, "dim_feedforward": 128},
    "train": {"steps": 10_000_000, "batch_size": 4, "window_bytes": 128, "evaluate_every": 0},
    "optimizer": {"optimizer": "adamw"},
}


def start(runs: Path) -> tuple[subprocess.Popen[str], Client]:
    """A server on a free port, in a process of its own."""
    words = [sys.executable, "-m", "bit_transformer", "serve", "--port", "0", "--runs", str(runs)]
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": root}
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    url = server.stdout.readline().split(" on ")[1].split(",")[0]
    return server, Client(url, (runs / ".server" / "token").read_text().strip())


def begin_training(client: Client) -> str:
    """A training that has done its first steps."""
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
    """Follow a job; counts events, and fails when a number is left out."""
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
    """Ask for /status again and again, each time on a connection of its own."""
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


async def watch_memory(pid: int, readings: list[int]) -> None:
    """Resident bytes, once a second."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        readings.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page)
        await asyncio.sleep(1.0)


async def measure(
    client: Client, job: str, pid: int, clients: int, seconds: float
) -> dict[str, Any]:
    """What a server does while it streams to so many clients for so long."""
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
    """In milliseconds."""
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
        # Again, for the last evaluation is not waited for.
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
        ["events a client, fewest", min(events)],
        ["events a client, most", max(events)],
        ["/status answers", len(latencies)],
        ["/status, median, ms", percentile(latencies, 50)],
        ["/status, p99, ms", percentile(latencies, 99)],
        ["/status, slowest, ms", percentile(latencies, 100)],
        ["resident memory at first, MiB", memory[0] / 2**20],
        ["resident memory at last, MiB", memory[-1] / 2**20],
        ["resident memory, most, MiB", max(memory) / 2**20],
        ["memory, last tenth / first tenth", found["memory_ratio"]],
    ]
    write_result(
        "server",
        summary="The management server while a training on all cores is streamed to many clients; "
        "/status is asked on new connections, 20 times a second. No event was missing.",
        columns=("", "measured"),
        rows=rows,
        details={"memory": memory},
    )


if __name__ == "__main__":
    main()
