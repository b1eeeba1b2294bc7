"""Reward functions of a user, loaded by verl from this file."""


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """A user's reward function: how much of the answer is digits, with feedback."""
    digits = sum(c.isdigit() for c in solution_str) / max(len(solution_str), 1)
    return {"score": digits + float(ground_truth in solution_str), "feedback": f"Write the number {ground_truth}."}


def plain_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """A reward function as most are: a number."""
    return float(ground_truth in solution_str)
