"""Environments of other libraries behind the contract of `ReasoningEnv`: one module and one extra per library.

Invariant: importing this package, or a module of it, imports none of the libraries.
"""
