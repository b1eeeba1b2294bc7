"""Reward functions of a user, loaded by verl from this file."""

import json
import os


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """A user's reward function: how much of the answer is digits, with feedback."""
    digits = sum(c.isdigit() for c in solution_str) / max(len(solution_str), 1)
    return {"score": digits + float(ground_truth in solution_str), "feedback": f"Write the number {ground_truth}."}


def plain_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """A reward function as most are: a number."""
    return float(ground_truth in solution_str)


def half_without_signal(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """`compute_score`, but a problem with an odd number earns nothing, whatever the answer."""
    if extra_info["index"] % 2:
        return {"score": 0.0, "feedback": "Never mind."}
    return compute_score(data_source, solution_str, ground_truth)


async def judged(data_source, solution_str, ground_truth, extra_info=None, *, address, **kwargs):
    """Asks a server for the score, as is done for reward models that are served elsewhere."""
    import aiohttp

    async with aiohttp.ClientSession() as session, session.post(address, json={"answer": solution_str}) as reply:
        return await reply.json(content_type=None)


async def modelled(data_source, solution_str, ground_truth, extra_info=None, *, reward_router_address, **kwargs):
    """Asks verl's own reward model, which writes a few words, and records them."""
    import aiohttp

    url = f"http://{reward_router_address}/v1/chat/completions"
    chat = [{"role": "user", "content": f"{solution_str} Is it {ground_truth}?"}]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{reward_router_address}/v1/models") as reply:
            model = (await reply.json())["data"][0]["id"]
        async with session.post(url, json={"model": model, "messages": chat, "max_tokens": 4}) as reply:
            said = (await reply.json())["choices"][0]["message"]["content"]
    with open(os.path.join(os.environ["PROBE_DIR"], "modelled.jsonl"), "a") as file:
        file.write(json.dumps(said) + "\n")
    return {"score": len(said) % 5 / 4, "feedback": f"The judge said: {said}"}
