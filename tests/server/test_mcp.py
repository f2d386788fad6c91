"""An agent with the official MCP client trains, follows the progress and generates."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from bit_transformer.server.operations import OPERATIONS
from tests.server.conftest import TINY, TOKEN


@asynccontextmanager
async def _client(served, token=TOKEN):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=120) as http:
        transport = streamable_http_client(f"{served.url}/mcp", http_client=http)
        async with Client(transport) as client:
            yield client


def _text(result):
    return " ".join(block.text for block in result.content)


def test_an_agent_trains_watches_and_generates(working):
    async def work():
        heard = []

        async def hear(progress, total, message):
            heard.append((progress, total, message))

        async with _client(working) as client:
            train = {"run": "two", "data": {"sources": ["text"]}, "model": TINY}
            train["train"] = {"steps": 12, "batch_size": 2, "telemetry_every": 0}
            job = (await client.call_tool("train", train)).structured_content
            done = await client.call_tool("wait_job", {"job": job["id"]}, progress_callback=hear)
            assert done.structured_content["state"] == "done"
            assert done.structured_content["result"]["steps"] == 12
            assert heard[-1] == (12.0, 12.0, "steps")
            heard.clear()
            generate = {"run": "two", "prompt": "to be", "new_bytes": 3}
            made = await client.call_tool("generate", generate, progress_callback=hear)
            assert [part["done"] for part in made.structured_content["parts"]] == [8, 16, 24]
            assert [progress for progress, _, _ in heard] == [8, 16, 24]
            metrics = await client.read_resource("bit-transformer://runs/two/metrics")
            return json.loads(metrics.contents[0].text)

    assert asyncio.run(work())["records"][-1]["step"] == 12


def test_every_operation_is_a_tool_with_the_schema_of_its_request(served):
    async def list_tools():
        async with _client(served) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(list_tools())}
    assert tools.keys() == OPERATIONS.keys() | {"wait_job"}
    for name, operation in OPERATIONS.items():
        assert tools[name].description == operation.description
        assert tools[name].input_schema == operation.request.model_json_schema()
        assert tools[name].annotations.read_only_hint == (operation.method == "GET")
    schema = tools["train"].input_schema
    steps = schema["$defs"]["TrainConfig"]["properties"]["steps"]
    assert steps["description"] == "Optimizer steps."


def test_an_agent_is_told_what_was_wrong(served):
    calls = [
        ("infer", {"run": "none"}, "404 Not Found: there is no run 'none'"),
        ("infer", {"new_bytes": 0}, "new_bytes: Input should be greater than or equal to 1"),
        ("train", {"train": {"steps": 0}}, "steps must be at least 1, got 0"),
        ("train", {"run": "one"}, "'one' is taken"),
        ("step", {"run": "one", "steps": 3}, "has done all of its 12 planned steps"),
        ("generate", {"run": "none"}, "there is no run 'none'"),
        ("wait_job", {"job": "20260101T000000000000-abcdef"}, "there is no job"),
    ]

    async def ask():
        async with _client(served) as client:
            for name, arguments, words in calls:
                result = await client.call_tool(name, arguments)
                assert result.is_error
                assert words in _text(result)

    asyncio.run(ask())


def test_runs_are_resources(served):
    async def read():
        async with _client(served) as client:
            templates = (await client.list_resource_templates()).resource_templates
            runs = await client.read_resource("bit-transformer://runs")
            settings = await client.read_resource("bit-transformer://runs/one/model_config")
            whole = await client.read_resource("bit-transformer://runs/one/run")
            for name in ("none", "..", "a%2Fb"):
                with pytest.raises(MCPError):
                    await client.read_resource(f"bit-transformer://runs/{name}/run")
            return templates, runs, settings, whole

    templates, *found = asyncio.run(read())
    assert {template.name for template in templates} == {"metrics", "model_config", "run"}
    runs, settings, whole = (json.loads(one.contents[0].text) for one in found)
    assert [run["name"] for run in runs["runs"]] == ["one"]
    assert settings["model"]["d_model"] == 16
    assert whole["summary"]["step"] == 12


def test_an_agent_without_the_token_is_kept_out(served):
    async def ask():
        async with _client(served, "wrong") as client:
            await client.list_tools()

    with pytest.raises(ExceptionGroup) as refusal:
        asyncio.run(ask())
    assert refusal.group_contains(MCPError, match="Server returned an error response")
