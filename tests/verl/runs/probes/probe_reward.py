"""Reward functions of a user, loaded by verl from this file."""


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
