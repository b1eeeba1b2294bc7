"""verl runs in processes of their own: `fst compare --arms`, `fst demo`, `fst probe`.

launch      one verl run, and several at a time
comparison  one verl command as several arms
demo        the demo's arms
probe       one fast phase without training
"""
