#!/usr/bin/env python3
"""The same classifier behind FastAPI: transformers' pipeline, with batches of what waits.

    python rival.py MODEL_DIR PORT THREADS [BATCH] [WAIT_MS]

MODEL_DIR is what `ls-cli export --merge` wrote. Requests that come within WAIT_MS of each other are one
batch of BATCH at most, as servers for transformers do it; the texts of a batch are padded to the longest.
Answers have the shape of `POST /predict`.
"""

import asyncio
import sys

import torch
import uvicorn
from fastapi import FastAPI, Request
from transformers import pipeline

path, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
batch_size = int(sys.argv[4]) if len(sys.argv) > 4 else 32
wait = float(sys.argv[5]) / 1000 if len(sys.argv) > 5 else 0.005
torch.set_num_threads(threads)
classify = pipeline("text-classification", model=path, tokenizer=path, device="cpu", dtype=torch.float32, top_k=None)
app = FastAPI()
queue: asyncio.Queue = asyncio.Queue()


async def work():
    loop = asyncio.get_running_loop()
    while True:
        waiting = [await queue.get()]
        until = loop.time() + wait
        while len(waiting) < batch_size:
            try:
                waiting.append(await asyncio.wait_for(queue.get(), max(0, until - loop.time())))
            except asyncio.TimeoutError:
                break
        # The texts of a batch are sorted nowhere: they came together.
        texts = [text for text, _ in waiting]
        with torch.inference_mode():
            answers = await loop.run_in_executor(None, lambda: classify(texts, batch_size=len(texts)))
        for (_, answer), labels in zip(waiting, answers):
            answer.set_result(labels)


@app.on_event("startup")
async def start():
    app.state.work = asyncio.create_task(work())


@app.post("/predict")
async def predict(request: Request):
    body = await request.json()
    answer = asyncio.get_running_loop().create_future()
    await queue.put((body["inputs"], answer))
    return await answer


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
