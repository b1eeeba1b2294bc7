"""Environments over data files: the paper's tasks, and what grades their answers.

data_files    rows of a JSONL or parquet file as instances
paper_tasks   CodeIO, HoVer, Polaris, Physics
math_answers  mathematical answers and quantities, graded in a killable process
math_child    that process
"""
