"""Fast-Slow Training in one file, without an RL stack: evolve, assign, step. About a second on any CPU.

    python examples/three_verbs.py

The task: every word has a secret code, and only feedback states it. The policy is a toy: its slow weights are one
number per word, the chance that it knows the code by heart. The fast weights are prompts, evolved by `fst_plugin` as
they are for a language model. A real RL stack replaces `answer` and the three lines under "step".
"""

import random
import tempfile
from pathlib import Path

from fst_plugin import Cell, Problem, Prompt, Request, Rollout
from fst_plugin.config import parse
from fst_plugin.context import PopulationContext
from fst_plugin.fast_weights import FastWeights
from fst_plugin.policy import Policy
from fst_plugin.rollouts import problem_id

K, T, G, BATCH, STEPS = 4, 3, 8, 8, 12
SEED = Prompt("You are a helpful assistant.")
CODES = {"invoice": "B4", "parcel": "E1", "ticket": "A3", "refund": "C5", "letter": "D2", "folder": "B2", "memo": "E5"}


def main(seed=0):
    """Trains, and returns the mean reward of each step (step 0: under the seed prompt) and the last population."""
    rng = random.Random(seed)
    theta = dict.fromkeys(CODES, 0.02)  # the slow weights

    def answer(prompt, question):  # the policy and its environment: a rule in the prompt is followed 3 times in 4
        word = question.split()[-1]
        rule = f"Write {word} {CODES[word]}."
        right = rng.random() < max(theta[word], 0.75 if rule in prompt else 0.0)
        return Rollout(float(right), "an answer", "Correct." if right else rule)

    def batch():
        asked = [f"{rng.random()}: file this {rng.choice(list(CODES))}" for _ in range(BATCH)]
        chats = [({"role": "user", "content": question},) for question in asked]
        return [Problem(problem_id(chat), chat) for chat in chats]

    def evaluate(cells):  # the fast phase's rollouts: one per (prompt, problem), in order
        return [answer(cell.prompt.text, cell.problem.messages[0]["content"]) for cell in cells]

    config = parse({"population": K, "slow_steps": T, "seed": seed, "reflection": {"kind": "offline"}})
    fast = FastWeights.start(config, Policy(), Path(tempfile.mkdtemp()), seed=SEED, log=lambda line: None)
    ahead, recent = [], []
    rewards = [sum(r.score for r in evaluate([Cell(SEED, p) for p in batch()])) / BATCH]
    for step in range(1, STEPS + 1):
        weights = fast.weights_after(step - 1)
        if fast.due(step):  # -------------------------- evolve: prompts for the next T batches, with theta frozen
            ahead, last = [batch() for _ in range(T)], recent
            recent = [problem for problems in ahead for problem in problems]
            fast.evolve(step, weights, recent, evaluate, last)
        provider, seen = PopulationContext([prompt.text for prompt in fast.population.prompts]), []
        for problem, offset in zip(ahead.pop(0), fast.deal([G] * BATCH), strict=True):
            group = []
            for session in range(G):  # ------------------ assign: a group's rollouts are spread over the K prompts
                assigned = provider.assign(Request(problem.id, offset + session, step, "train", problem.messages))
                group.append(answer(assigned.messages[0]["content"], assigned.messages[-1]["content"]))
                seen.append((problem.id, assigned.digest, group[-1]))
            if len({rollout.score for rollout in group}) > 1:  # step: one group per problem; no spread, no gradient
                word = problem.messages[0]["content"].split()[-1]
                theta[word] = min(1.0, theta[word] + 0.1)
        fast.observe(step, weights, seen)
        rewards.append(sum(rollout.score for _, _, rollout in seen) / len(seen))
    return rewards, fast.population


if __name__ == "__main__":
    rewards, population = main()
    print("reward by step:", *(f"{reward:.2f}" for reward in rewards))
    print(f"best prompt:\n{population.best.text}")
