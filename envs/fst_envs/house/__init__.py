"""The house rules: a little language, environments that speak it, and tiny policies that understand it.

language    words, rule sentences, requests, answers
rules       `fst/HouseRules-v0`: hidden conventions that only feedback reveals
second_try  `fst/SecondTry-v0`: the same with a second attempt
policy      where the trained weights of the tiny policies are, and how reliable they are
"""
