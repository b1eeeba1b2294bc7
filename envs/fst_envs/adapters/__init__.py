"""Environments of other libraries behind the contract of `ReasoningEnv`: one module per library, each an extra.

Importing this package imports none of the libraries.
"""
