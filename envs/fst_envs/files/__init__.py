"""Environments over data files: the paper's tasks, and what grades their answers.

data_files    rows of a file as instances
paper_tasks   CodeIO, HoVer, Polaris, Physics
math_answers  grades mathematical answers and quantities
math_child    the killable process in which it does
"""
