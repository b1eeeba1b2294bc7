"""A tool that verl's tool agent loop offers to the model (`rollout.multi_turn.function_tool_path`)."""

from verl.tools.function_tool import function_tool


@function_tool
def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: the first number.
        b: the second number.
    """
    return a + b
