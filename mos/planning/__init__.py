"""Cost model, by formula: bytes, FLOPs, hours and money; and which source of states is the cheapest.

    from mos.planning.recommend import StageLoad, recommend

`recommend(loads, machine, limits)` is what `auto` means in a stage's config, and what `pipelines/plan.py` prints.
"""
