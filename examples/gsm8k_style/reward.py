"""The pipeline's own reward function. Next to the score it may return `feedback`, which the reflection reads."""

import re


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    numbers = re.findall(r"-?\d+", solution_str)
    if not numbers:
        return {"score": 0.0, "feedback": "The answer holds no number: end it with the number that is left."}
    right = numbers[-1] == ground_truth
    feedback = (
        "Correct." if right else f"The last number is {numbers[-1]}: it should be what is left after giving away."
    )
    return {"score": float(right), "feedback": feedback}
