"""verl runs in processes of their own: `fst compare --arms`, `fst demo`, `fst probe`.

launch      one `python -m verl.trainer.main_ppo`
runner      a list of runs, some at a time, each of them once
comparison  one verl command as several arms
demo        the demo's arms
probe       one fast phase without training
"""
