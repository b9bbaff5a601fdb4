"""Requests to vLLM's HTTP server, sent with the real openai client."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

from items import load_items

CONCURRENT = 12
TOKENS = 24


def message(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the user's message for an item of the fixture."""
    parts: list[dict[str, Any]] = []
    if item["image"]:
        data = base64.b64encode((folder / item["image"]).read_bytes()).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    parts.append({"type": "text", "text": item["question"]})
    return {"role": "user", "content": parts}


async def complete(client: Any, item: dict[str, Any], folder: Path) -> str:
    """Return the answer in one piece."""
    completion = await client.chat.completions.create(
        model="model", messages=[message(item, folder)], temperature=0, max_tokens=TOKENS
    )
    return completion.choices[0].message.content or ""


async def stream(client: Any, item: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the answer's pieces, and the seconds until the first came."""
    begin = time.perf_counter()
    first, pieces = 0.0, []
    async for chunk in await client.chat.completions.create(
        model="model", messages=[message(item, folder)], temperature=0, max_tokens=TOKENS, stream=True
    ):
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter() - begin
            pieces.append(chunk.choices[0].delta.content)
    return {"pieces": pieces, "first token": first}


async def send_all(port: int, file: Path) -> dict[str, Any]:
    """Return the answers to a text and to an image, plain and streamed, and to some questions one by one and at once.

    With them come the server's status for a request that it cannot serve, and its answer after that. `file` is
    items.json.
    """
    import openai

    items, folder = load_items(file), file.parent
    text = next(item for item in items if not item["image"])
    image = next((item for item in items if item["image"]), text)
    many = (items[: CONCURRENT // 2] + items[-CONCURRENT // 2 :])[:CONCURRENT]
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        answers: dict[str, Any] = {"text": await complete(client, text, folder)}
        answers["image"] = await complete(client, image, folder)
        answers["streamed text"] = await stream(client, text, folder)
        answers["streamed image"] = await stream(client, image, folder)
        answers["one by one"] = [await complete(client, item, folder) for item in many]
        begin = time.perf_counter()
        answers["at once"] = await asyncio.gather(*(complete(client, item, folder) for item in many))
        answers["at once seconds"] = time.perf_counter() - begin
        answers["right"] = [item["answer"] for item in many]
        try:
            await client.chat.completions.create(model="nobody", messages=[message(text, folder)])
            answers["unknown model"] = "answered"
        except openai.NotFoundError as error:
            answers["unknown model"] = f"{error.status_code}"
        answers["after the error"] = await complete(client, text, folder)
    return answers
