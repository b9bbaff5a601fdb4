"""Ask vLLM's HTTP server with the real openai client."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

CONCURRENT = 12
TOKENS = 24


def message(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the user's message for an item of the kit."""
    parts: list[dict[str, Any]] = []
    if item["picture"]:
        data = base64.b64encode((folder / item["picture"]).read_bytes()).decode()
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
    parts.append({"type": "text", "text": item["ask"]})
    return {"role": "user", "content": parts}


async def ask(client: Any, item: dict[str, Any], folder: Path) -> str:
    """Return the answer in one piece."""
    said = await client.chat.completions.create(
        model="model", messages=[message(item, folder)], temperature=0, max_tokens=TOKENS
    )
    return said.choices[0].message.content or ""


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


async def ask_all(port: int, file: Path) -> dict[str, Any]:
    """Return the answers to a text and to a picture, plain and streamed, and to some questions one by one and at once.

    With them comes what the server says to a request that it cannot serve, and to one after that. `file` is items.json.
    """
    import openai

    items = json.loads(file.read_text())
    text = next(item for item in items if not item["picture"])
    picture = next((item for item in items if item["picture"]), text)
    many = (items[: CONCURRENT // 2] + items[-CONCURRENT // 2 :])[:CONCURRENT]
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        said: dict[str, Any] = {"text": await ask(client, text, file.parent)}
        said["picture"] = await ask(client, picture, file.parent)
        said["streamed text"] = await stream(client, text, file.parent)
        said["streamed picture"] = await stream(client, picture, file.parent)
        said["one by one"] = [await ask(client, item, file.parent) for item in many]
        begin = time.perf_counter()
        said["at once"] = await asyncio.gather(*(ask(client, item, file.parent) for item in many))
        said["at once seconds"] = time.perf_counter() - begin
        said["right"] = [item["answer"] for item in many]
        try:
            await client.chat.completions.create(model="nobody", messages=[message(text, file.parent)])
            said["unknown model"] = "answered"
        except openai.NotFoundError as error:
            said["unknown model"] = f"{error.status_code}"
        said["after the error"] = await ask(client, text, file.parent)
    return said
