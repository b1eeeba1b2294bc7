"""The house rules: a little language, environments that speak it, and a tiny policy that understands it.

language    words, rule sentences, requests, answers
rules       `fst/HouseRules-v0`: hidden conventions that only feedback reveals
second_try  `fst/SecondTry-v0`: the same with a second attempt
"""
