"""verl on a machine without an accelerator; inert elsewhere.

platform           verl's device interface on plain CPU, and patches for code that assumes an accelerator
vllm_worker        what is patched inside vLLM's own worker
replay_buffer      verl's replay buffers, polled more often
checkpoint_engine  weights for rollout servers of their own
"""
