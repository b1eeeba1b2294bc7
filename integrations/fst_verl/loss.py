"""Advantage estimator `fst_grpo`: one group per problem across all prompts, each problem weighing the same.

Paper Algorithm 1, step 3 and Eq. 4: A_i = (r_i - mean) / (std + eps) over all G rollouts of a problem, whatever
prompt each ran under; token losses averaged per problem; problems without reward spread dropped. verl averages over
the tokens of the batch (`loss_agg_mode=token-mean`) and has no per-problem mode, so the estimator carries the weights:
with N response tokens in the batch, N_p of them in problem p and P problems that have spread,

    A_it = A_i * N / (P * N_p)    and so    (1/N) sum_t A_it l_t  =  (1/P) sum_p (1/N_p) sum_{t in p} A_i l_t.

This holds for one optimizer step per batch (paper §settings); with more mini-batches it holds in expectation.
"""

from __future__ import annotations

from typing import Any

from .compat import ESTIMATOR, names


@names.register_adv_est(ESTIMATOR)
def per_problem_advantage(
    token_level_rewards: Any, response_mask: Any, index: Any, config: Any = None, eps: float = 1e-6, **_: Any
) -> tuple[Any, Any]:
    """Advantages of a batch.

    token_level_rewards, response_mask: (rollouts, tokens).
    index: (rollouts,), the problem of each rollout.
    config: verl's `algorithm` node; with `norm_adv_by_std_in_grpo=false` nothing is divided by a group's spread.

    Returns advantages and returns, both (rollouts, tokens), zero outside the mask and for groups without spread.
    """
    import torch

    by_std = config is None or config.get("norm_adv_by_std_in_grpo", True)
    with torch.no_grad():
        mask = response_mask.to(token_level_rewards.dtype)
        rewards_R = token_level_rewards.sum(dim=-1)
        tokens_R = mask.sum(dim=-1)
        groups: dict[Any, list[int]] = {}
        for row, problem in enumerate(index):
            groups.setdefault(problem, []).append(row)
        advantages_R = torch.zeros_like(rewards_R)
        weights_R = torch.zeros_like(rewards_R)
        alive = 0
        for rows in groups.values():
            rewards = rewards_R[rows]
            if len(rows) < 2 or bool((rewards == rewards[0]).all()):
                continue
            alive += 1
            advantages_R[rows] = (rewards - rewards.mean()) / (rewards.std() + eps if by_std else 1.0)
            weights_R[rows] = 1.0 / tokens_R[rows].sum().clamp(min=1)
        if alive:
            weights_R = weights_R * tokens_R.sum() / alive
        advantages = (advantages_R * weights_R).unsqueeze(-1) * mask
    return advantages, advantages
